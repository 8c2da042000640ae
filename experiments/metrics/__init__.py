"""Metrics of taggers."""
