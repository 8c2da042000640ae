"""Helpers of the tests. No test module imports another; what several need is here."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The root of the repository."""
