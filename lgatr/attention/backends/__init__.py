"""Attention backends, one file each. A new file here is a new backend: nothing else to edit."""
