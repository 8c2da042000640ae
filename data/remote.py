"""Fetch files over HTTP: what is there goes on where it ended, and checksums are compared."""

from __future__ import annotations

import hashlib
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from data.errors import DataError

ZENODO = "https://zenodo.org"
_PIECE = 1 << 20
_SECONDS = 60
_AGAIN = 5
"""Times that a broken connection is taken up again without a byte in between."""
Report = Callable[[int], None]
"""Called with the bytes of a file that are there."""


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch.

    Parameters
    ----------
    name
        What it is called here.
    url
        Where it is.
    size
        In bytes; None if unknown.
    checksum
        Such as ``md5:...``; None if unknown.
    """

    name: str
    url: str
    size: int | None = None
    checksum: str | None = None


def record(number: int, server: str = ZENODO) -> list[RemoteFile]:
    """The files of a record of Zenodo, with sizes and checksums.

    Raises
    ------
    DataError
        If the server cannot be reached, or answers something else.
    """
    url = f"{server}/api/records/{number}"
    try:
        with _opened(url, 0) as answer:
            content = answer.read(64 << 20)
    except (OSError, HTTPException) as error:
        raise DataError(f"{url}: {_reason(error)}; try again later") from error
    try:
        files = json.loads(content)["files"]
        return [
            RemoteFile(
                Path(str(file["key"])).name, str(file["links"]["self"]), int(file["size"]),
                str(file["checksum"]),
            )
            for file in files
        ]  # fmt: skip
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{url}: the answer describes no record of files") from error


def fetch(file: RemoteFile, folder: Path, report: Report = lambda _: None) -> Path:
    """Fetch a file into a folder, or go on with it; returns its path.

    A file that is there is kept if its size is right. What is not complete is ``NAME.part``.

    Raises
    ------
    DataError
        If the server cannot be reached, or the file is not what it should be.
    """
    target, part = folder / file.name, folder / f"{file.name}.part"
    if target.exists():
        if file.size is not None and target.stat().st_size != file.size:
            raise DataError(
                f"{target}: has {target.stat().st_size:,} bytes, and {file.url} {file.size:,}; "
                "move it away, or remove it"
            )
        report(target.stat().st_size)
        return target
    idle = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _append(file, part, before, report)
            break
        except (OSError, HTTPException) as error:
            after = part.stat().st_size if part.exists() else 0
            idle = 0 if after > before else idle + 1
            if idle >= _AGAIN or isinstance(error, urllib.error.HTTPError):
                raise DataError(
                    f"{file.url}: {_reason(error)}; {part} is kept, and the same command goes on"
                ) from error
    _check(file, part)
    os.replace(part, target)
    return target


def _append(file: RemoteFile, part: Path, start: int, report: Report) -> None:
    if file.size is not None and start >= file.size:
        return
    with _opened(file.url, start) as answer:
        if start and answer.status != 206:  # a server that cannot go on
            start = 0
        with open(part, "ab" if start else "wb") as out:
            done = start
            while piece := answer.read(_PIECE):
                out.write(piece)
                done += len(piece)
                report(done)
            out.flush()
            os.fsync(out.fileno())
    if file.size is not None and done < file.size:
        raise ConnectionError("the connection ended early")


def _opened(url: str, start: int) -> Any:
    if not url.startswith(("https://", "http://")):
        raise DataError(f"{url}: no address of a web server")
    headers = {"User-Agent": "lgatr", **({"Range": f"bytes={start}-"} if start else {})}
    request = urllib.request.Request(url, headers=headers)
    try:
        return urllib.request.urlopen(request, timeout=_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # all of it is there
            raise ConnectionError("nothing is left to fetch") from error
        raise
    except urllib.error.URLError as error:
        raise ConnectionError(str(error.reason)) from error


def _check(file: RemoteFile, part: Path) -> None:
    size = part.stat().st_size
    if file.size is not None and size != file.size:
        part.unlink()
        raise DataError(f"{part}: has {size:,} bytes in place of {file.size:,}; fetch it again")
    if file.checksum is None:
        return
    kind, _, wanted = file.checksum.partition(":")
    if kind not in hashlib.algorithms_available:
        raise DataError(f"{file.url}: its checksum is of an unknown kind, {kind}")
    digest = hashlib.new(kind)
    for piece in _pieces(part):
        digest.update(piece)
    if digest.hexdigest() != wanted:
        part.unlink()
        raise DataError(f"{file.url}: arrived damaged ({kind} differs); fetch it again")


def _pieces(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while piece := file.read(_PIECE):
            yield piece


def _reason(error: BaseException) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code} {error.reason}"
    return " ".join(str(error).split()) or type(error).__name__
