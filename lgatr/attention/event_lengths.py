"""Lengths of events from files of several kinds."""

from __future__ import annotations

from pathlib import Path


def read_lengths(path: Path) -> list[int]:
    """Lengths of events from a text file, ``.npy``, or HDF5 with ``lengths`` or ``offsets``.

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

    found: list[int | str] = []

    def visit(name: str, item: object) -> None:
        if found or not isinstance(item, h5py.Dataset) or item.ndim != 1:
            return
        last = name.rsplit("/", 1)[-1]
        if last in ("lengths", "num_constituents"):
            found.extend(item[:].tolist())
        elif last in ("offsets", "ptr"):
            values = item[:]
            found.extend((values[1:] - values[:-1]).tolist())

    try:
        with h5py.File(path) as file:
            file.visititems(visit)
    except OSError as error:
        raise ValueError(f"{path} is no HDF5 file, or damaged") from error
    if not found:
        raise ValueError(f"{path} has no data set named lengths, offsets or ptr")
    return found
