"""Options of runs: their names, types and ranges, checked before anything is read or written."""
