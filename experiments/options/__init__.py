"""What the options of a run may be, checked before anything is read or written."""
