"""Open an HDF5 file, turning the library's messages into ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import hdf5plugin

from data.errors import DataError

# Importing hdf5plugin registers the blosc filter that PyTables files are compressed with.
FILTERS = hdf5plugin.get_filters()

_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def is_hdf5(path: Path) -> bool:
    """Whether ``path`` is a file that starts like an HDF5 file, damaged or not."""
    if not path.is_file():
        return False
    with open(path, "rb") as handle:
        return handle.read(len(_SIGNATURE)) == _SIGNATURE


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open for reading; a damaged file raises :class:`DataError` instead of ``OSError``."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except DataError:
        raise
    except (OSError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path}: damaged or cut short ({reason}); fetch or generate it again"
        ) from error
