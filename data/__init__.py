"""How data sets are made, read and converted. File formats live in :mod:`data.formats`."""

from data.signals import guard_imports

guard_imports()
