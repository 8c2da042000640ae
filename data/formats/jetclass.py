"""JetClass (Zenodo 6619768): ROOT files of ten classes of jets.

Folders ``train_100M``, ``val_5M``, ``test_20M`` (any name that starts with the split) hold files
``<class>_<number>.root`` of 100,000 jets. Classes are read from the names of the label branches.
"""

from __future__ import annotations

from pathlib import Path

from data import root_jets
from data.jets import Jets

NAME = "JetClass (ROOT)"
CLASSES = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")
LAYOUT = root_jets.Layout(
    labels={name: f"label_{name}" for name in CLASSES},
    particles={
        **root_jets.FLAGS,
        "d0": "part_d0val",
        "d0_error": "part_d0err",
        "dz": "part_dzval",
        "dz_error": "part_dzerr",
    },
    jets={"mass": "jet_sdmass", **{f"tau{i}": f"jet_tau{i}" for i in range(1, 5)}},
)


def recognises(file: Path) -> bool:
    """Whether ``file`` is a ROOT file with JetClass' labels."""
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
