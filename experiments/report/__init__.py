"""The report of a run and the published figures beside it."""
