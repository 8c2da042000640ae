"""Checksums inside the files of :func:`torch.save`, which :func:`torch.load` does not look at."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path


def check_archive(path: str | Path) -> None:
    """Compare each part of a file of :func:`torch.save` with its checksum (CRC-32).

    Files of the format before torch 1.6, and those written with checksums switched off, have none
    and pass.

    Raises
    ------
    ValueError
        If a part does not match.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            if any(part.CRC for part in archive.infolist()):
                damaged = archive.testzip()
            else:
                damaged = None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{path}: damaged ({error})") from error
    if damaged is not None:
        raise ValueError(f"{path}: damaged; {damaged} does not match its checksum")
