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
