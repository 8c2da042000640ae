"""Reports and tables of runs, with published figures."""
