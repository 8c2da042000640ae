"""TopTagXL (Zenodo 10878355): ROOT files of top quark and QCD jets.

Folders ``train_100M``, ``val_10M``, ``test_25M`` hold files ``qcd_<number>.root`` and
``top_<number>.root``, laid out like JetClass with other names of branches.
"""

from __future__ import annotations

from pathlib import Path

from data import root_jets
from data.jets import Jets

NAME = "TopTagXL (ROOT)"
LAYOUT = root_jets.Layout(
    labels={"QCD": "label_isQCD", "top": "label_isTop"},
    particles={
        **root_jets.FLAGS,
        "d0": "part_D0",
        "d0_error": "part_ErrD0",
        "dz": "part_DZ",
        "dz_error": "part_ErrDZ",
    },
    jets={},
)


def recognises(file: Path) -> bool:
    """Whether ``file`` is a ROOT file with TopTagXL's labels."""
    return root_jets.recognises(file, list(LAYOUT.labels.values()))


def files(path: Path, split: str) -> list[Path]:
    """Files of a split."""
    return root_jets.files(path, split) if path.is_dir() else [path]


def count(file: Path, split: str) -> int:
    """Jets in a file."""
    return root_jets.count(file)


def read_file(file: Path, split: str, start: int = 0, stop: int | None = None) -> Jets:
    """Some jets of a file."""
    return root_jets.read(file, LAYOUT, start, stop)
