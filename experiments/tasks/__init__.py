"""Lightning modules, one per kind of task."""
