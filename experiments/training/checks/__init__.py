"""Checks of a run's options that need its parts, made before anything is read or written."""
