"""What a conversion was asked for and what of it is done, so that it can be stopped at any moment.

The manifest is written before the first file, and anew after each. A file that it does not call
done, or whose sources have changed since, is made again; a folder that was begun with other options
is refused. It holds no times of its own making: an interrupted conversion that was run again leaves
the same bytes as one that was not.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.atomic import check_new, write_text
from data.errors import DataError

Sources = dict[str, list[int]]
"""Size in bytes and time of the last change in ns, by the name of a source."""


class Manifest:
    """The manifest of a conversion.

    Parameters
    ----------
    path
        Where it lies.
    options
        What was asked for, by the name of the option.

    Raises
    ------
    DataError
        If it was begun with other options, or cannot be read.
    """

    def __init__(self, path: Path, options: Mapping[str, Any]) -> None:
        self.path, self.options = path, dict(options)
        self.files: dict[str, dict[str, Any]] = {}
        self.is_new = not path.is_file()
        if self.is_new:
            check_new(path)
        else:
            self._load()

    def _load(self) -> None:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            begun, self.files = content["options"], dict(content["files"])
            for file in self.files.values():
                file["sources"], file["bytes"], file["sha256"]
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"{self.path}: not the manifest of a conversion; delete what was converted, or "
                "choose another target"
            ) from error
        if begun != self.options:
            names = sorted(set(begun) | set(self.options))
            changed = ", ".join(
                f"{name} {begun.get(name)} instead of {self.options.get(name)}"
                for name in names
                if begun.get(name) != self.options.get(name)
            )
            raise DataError(
                f"{self.path}: exists, of a conversion with {changed}; give the same options, "
                "or choose another target"
            )

    def is_done(self, name: str, sources: Sources, place: Path) -> bool:
        """Whether a file was made from what its sources are now, and is there."""
        entry = self.files.get(name)
        return (
            entry is not None
            and entry["sources"] == sources
            and place.is_file()
            and place.stat().st_size == entry["bytes"]
        )

    def set_done(self, name: str, sources: Sources, place: Path, sha256: str) -> None:
        """Note that a file is complete."""
        self.files[name] = {
            "sources": sources, "bytes": place.stat().st_size, "sha256": sha256
        }  # fmt: skip
        self.save()

    def checksums(self) -> bytes:
        """All files in the form of ``sha256sum``: names as their bytes, line ends escaped."""
        lines = []
        for name, file in sorted(self.files.items()):
            escaped = name.replace("\\", r"\\").replace("\n", r"\n").replace("\r", r"\r")
            mark = "\\" if escaped != name else ""
            lines.append(f"{mark}{file['sha256']}  {escaped}\n")
        return os.fsencode("".join(lines))

    def save(self) -> None:
        """Write the manifest."""
        content = {"options": self.options, "files": self.files}
        write_text(self.path, json.dumps(content, indent=1, sort_keys=True) + "\n")
