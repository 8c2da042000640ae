"""Small jet files in every format, written by the field's libraries rather than ours."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np


def random_jets(count: int, seed: int, most: int = 12):
    """Padded momenta (count, 200, 4) in GeV, and labels."""
    rng = np.random.default_rng(seed)
    momenta = np.zeros((count, 200, 4), dtype=np.float32)
    for jet in momenta:
        n = rng.integers(1, most)
        p = rng.normal(0, 20, (n, 3))
        p = p[np.argsort(-np.hypot(p[:, 0], p[:, 1]))]
        jet[:n, 0] = np.sqrt((p**2).sum(1) + 0.02)
        jet[:n, 1:] = p
    labels = np.arange(count) % 2
    return momenta, labels


def write_pandas(path: Path, momenta, labels) -> None:
    """The reference layout, by pandas and PyTables with blosc."""
    import pandas

    count = len(labels)
    columns = [f"{c}_{i}" for i in range(200) for c in ("E", "PX", "PY", "PZ")]
    columns += ["truthE", "truthPX", "truthPY", "truthPZ"]
    values = np.concatenate([momenta.reshape(count, 800), np.zeros((count, 4), np.float32)], 1)
    frame = pandas.DataFrame(values, columns=columns)
    integers = pandas.DataFrame(
        {"ttv": np.zeros(count, np.int64), "is_signal_new": labels.astype(np.int64)}
    )
    frame = pandas.concat([frame, integers], axis=1)
    frame.to_hdf(path, key="table", format="table", complib="blosc", complevel=5)


def write_npz(path: Path, splits) -> None:
    arrays = {}
    for name, (momenta, labels) in splits.items():
        arrays[f"kinematics_{name}"], arrays[f"labels_{name}"] = momenta, labels
    np.savez_compressed(path, **arrays)


def write_packed_by_hand(path: Path, momenta, truth, **replace) -> None:
    """Our layout written with h5py alone; ``replace`` puts something else in a data set."""
    real = momenta[..., 0] > 0
    arrays = {
        "constituents": momenta[real],
        "offsets": np.concatenate([[0], np.cumsum(real.sum(1))]),
        "labels": truth,
        **replace,
    }
    with h5py.File(path, "w") as file:
        file.attrs["format"] = "lgatr-packed-jets"
        for split in ("train", "val", "test"):
            for name, array in arrays.items():
                file.create_dataset(f"{split}/{name}", data=array)


def random_particles(count: int, seed: int, most: int = 12) -> dict[str, np.ndarray]:
    """Jagged columns of particles as flat arrays, and ``lengths``."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, most, count)
    total = int(lengths.sum())
    p = rng.normal(0, 20, (total, 3))
    columns = {
        "px": p[:, 0], "py": p[:, 1], "pz": p[:, 2],
        "energy": np.sqrt((p**2).sum(1) + 0.02),
        "charge": rng.integers(-1, 2, total),
        "d0": rng.normal(0, 1, total), "d0_error": rng.random(total),
        "dz": rng.normal(0, 1, total), "dz_error": rng.random(total),
    }  # fmt: skip
    kinds = rng.integers(0, 5, total)
    for number, name in enumerate(
        ("isChargedHadron", "isNeutralHadron", "isPhoton", "isElectron", "isMuon")
    ):
        columns[name] = kinds == number
    return {"lengths": lengths, **{k: v.astype(np.float32) for k, v in columns.items()}}


def write_root(path: Path, particles, label: str, labels: list[str], xl: bool = False) -> None:
    """A file of one class in the layout of JetClass, or of TopTagXL, by uproot."""
    import awkward as ak
    import uproot

    names = {
        "d0": ("d0val", "D0"), "d0_error": ("d0err", "ErrD0"),
        "dz": ("dzval", "DZ"), "dz_error": ("dzerr", "ErrDZ"),
    }  # fmt: skip
    lengths = particles["lengths"]
    branches = {}
    for name, values in particles.items():
        if name != "lengths":
            branch = names.get(name, (name, name))[xl]
            branches[f"part_{branch}"] = ak.unflatten(values, lengths)
    count = len(lengths)
    for other in labels:
        branches[f"label_{other}"] = np.full(count, other == label, dtype=np.int32)
    if not xl:
        branches["jet_sdmass"] = np.arange(count, dtype=np.float32)
        for i in range(1, 5):
            branches[f"jet_tau{i}"] = np.full(count, i / 10, dtype=np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    with uproot.recreate(path) as file:
        file.mktree(
            "tree", {k: v.type if hasattr(v, "layout") else v.dtype for k, v in branches.items()}
        )
        file["tree"].extend(branches)


def write_quark_gluon(path: Path, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A file in the layout of EnergyFlow, by NumPy."""
    rng = np.random.default_rng(seed)
    x = np.zeros((count, 9, 4))
    for jet in x:
        n = rng.integers(1, 9)
        jet[:n, 0] = rng.exponential(20, n) + 0.1
        jet[:n, 1] = rng.normal(0, 1, n)
        jet[:n, 2] = rng.uniform(0, 2 * np.pi, n)
        jet[:n, 3] = rng.choice([22, 211, -211, 130, 11, -13, 2212], n)
    y = (np.arange(count) % 2).astype(float)
    np.savez_compressed(path, X=x, y=y)
    return x, y
