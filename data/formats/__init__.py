"""File formats for jets. A format is recognised by what a file holds.

Each module here offers ``NAME``, ``recognises(path)`` and ``read(path, split, limit)``, or, for
many files that are read while training, ``files``, ``count`` and ``read_file``; adding a format is
adding a module (see ``docs/extending.md``). Files of named fields need no module: they are
described in YAML, those of public data sets in ``data/descriptions``. Descriptions alone are known
by their name, ``*.yaml``.
"""

from data.formats.registry import Format, find_format, known_samples, read_jets

__all__ = ["Format", "find_format", "known_samples", "read_jets"]
