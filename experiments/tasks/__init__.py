"""Lightning modules, one for each kind of task."""
