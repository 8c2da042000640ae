"""Read lengths of events from text, .npy and HDF5 files."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

MAX_EVENTS = 10_000
"""Padded events that are read at most."""


def read_lengths(path: Path) -> list[int]:
    """Lengths of events from a text file, ``.npy``, or HDF5.

    HDF5 files have a data set ``lengths``, ``num_constituents``, ``offsets`` or ``ptr``; or events
    padded by zeros, as ``(events, particles, features)`` or as a pandas table of momenta such as
    that of the top-tagging data set.

    Raises
    ------
    ValueError
        If there are none, or one is no number; in one line that names the file.
    """
    if not path.is_file():
        raise ValueError(f"{path} is not a file")
    if path.suffix == ".npy":
        values = _from_npy(path)
    elif path.suffix in (".h5", ".hdf5"):
        values = _from_hdf5(path)
    else:
        values = list(path.read_text().replace(",", " ").split())
    try:
        lengths = [int(v) for v in values]
    except ValueError as error:
        raise ValueError(
            f"{path} holds something that is no whole number; give one length for each event"
        ) from error
    lengths = [n for n in lengths if n > 0]
    if not lengths:
        raise ValueError(f"{path} holds no lengths above zero")
    return lengths


def _from_npy(path: Path) -> list[int | str]:
    import numpy as np

    try:
        return np.load(path, allow_pickle=False).ravel().tolist()
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is no .npy file of numbers, or damaged") from error


def _from_hdf5(path: Path) -> list[int | str]:
    import h5py

    with contextlib.suppress(ImportError):
        import hdf5plugin  # noqa: F401  (compressions that pandas uses)

    found: list[int | str] = []

    def visit(name: str, item: object) -> None:
        if not found and isinstance(item, h5py.Dataset):
            found.extend(_from_dataset(name.rsplit("/", 1)[-1], item))

    try:
        with h5py.File(path) as file:
            file.visititems(visit)
    except OSError as error:
        raise ValueError(f"{path} is no readable HDF5 file: {error}") from error
    if not found:
        raise ValueError(
            f"{path} has no data set named lengths, offsets or ptr, and none with events padded "
            "by zeros"
        )
    return found


def _from_dataset(name: str, item: Any) -> list[int]:
    """Lengths that an HDF5 data set holds, or of the events in it; nothing if it has neither."""
    import numpy as np

    if item.dtype.names is not None:  # a pandas table
        wide = [n for n in item.dtype.names if item.dtype[n].shape[:1] > (4,)]
        rows = item[:MAX_EVENTS][wide[0]] if wide else np.empty((0, 0))
        # (E, px, py, pz) of each particle, then zeros, then columns about the event
        return _leading(rows[:, : rows.shape[1] // 4 * 4].reshape(len(rows), -1, 4))
    if item.dtype.kind not in "iuf":
        return []
    if item.ndim == 1 and name in ("lengths", "num_constituents"):
        return item[:].tolist()
    if item.ndim == 1 and name in ("offsets", "ptr"):
        return np.diff(item[:]).tolist()
    return _leading(item[:MAX_EVENTS]) if item.ndim == 3 else []


def _leading(events: Any) -> list[int]:
    """Number of rows before the first that is all zeros, by event."""
    return (events != 0).any(-1).cumprod(-1).sum(-1).tolist() if events.size else []
