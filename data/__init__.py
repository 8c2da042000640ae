"""How data sets are made, read and converted. File formats live in :mod:`data.formats`."""
