"""Taggers, one file for each network."""
