"""The data module of whole events."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
import torch

from data.errors import DataError
from data.events import files
from experiments.data.event_data import EventData
from experiments.errors import UserError
from experiments.saved_runs.run_directory import read_spec, write_spec
from support.flows import PAIRS, flow_events

OPTIONS = {
    "table": None, "names": None, "masses": None, "cuts": None, "shares": (0.5, 0.3, 0.2),
    "conditional": False, "batch_size": 16, "eval_batch_size": 10, "limit": 0, "seed": 1,
}  # fmt: skip


def module(path, **changed):
    data = EventData(**{**OPTIONS, "path": str(path), **changed})
    data.setup()
    return data


def written(folder, count=60, detected=True):
    p = flow_events(PAIRS, count).numpy()
    seen = p[:, ::-1].copy() if detected else None
    samples = {n: files.Sample(p, seen, PAIRS) for n in ("train", "val", "test")}
    files.write(folder / "events.h5", samples, {})
    return folder / "events.h5", p


def test_batches(tmp_path):
    path, p = written(tmp_path)
    data = module(path, conditional=True)
    batch = next(iter(data.val_dataloader()))
    assert batch.fourmomenta.dtype == torch.float64 and batch.scalars.shape == (30, 0)
    np.testing.assert_allclose(batch.fourmomenta.view(10, 3, 4).numpy(), p[:10], rtol=1e-6)
    np.testing.assert_allclose(batch.condition.numpy(), p[:10, ::-1], rtol=1e-6)
    assert batch.to("cpu").condition.shape == (10, 3, 4)
    assert next(iter(module(path).val_dataloader())).condition is None
    path, _ = written(tmp_path, detected=False)
    with pytest.raises(DataError, match="as a detector sees them"):
        module(path, conditional=True)


def test_rows_of_numbers(tmp_path):
    p = flow_events(PAIRS, 100).numpy()
    np.save(tmp_path / "rows.npy", p.reshape(100, 12))
    known = {"names": PAIRS.names, "masses": PAIRS.masses, "cuts": asdict(PAIRS.cuts)}
    data = module(tmp_path / "rows.npy", **known)
    assert data.num_jets() == {"train": 50, "val": 30, "test": 20}
    assert data.spec.final_state == PAIRS
    with pytest.raises(UserError, match="masses must be a list of 3"):
        module(tmp_path / "rows.npy", **{**known, "masses": [None]})
    with pytest.raises(UserError, match=r"give data\.names, data\.masses, data\.cuts"):
        module(tmp_path / "rows.npy")


@pytest.mark.parametrize("name", ["names", "masses", "cuts"])
def test_what_a_file_tells_itself_is_not_given(tmp_path, name):
    """An option without effect would go unnoticed."""
    path, _ = written(tmp_path)
    given = {"names": PAIRS.names, "masses": PAIRS.masses, "cuts": asdict(PAIRS.cuts)}[name]
    with pytest.raises(UserError, match=rf"data\.{name}: describes rows of numbers"):
        module(path, **{name: given})


def test_specifications_are_kept(tmp_path):
    path, _ = written(tmp_path)
    spec = module(path, conditional=True).spec
    write_spec(tmp_path, spec)
    assert read_spec(tmp_path) == spec
    text = (tmp_path / "data_spec.json").read_text()
    (tmp_path / "data_spec.json").write_text(text.replace('"pt"', '"p"'))
    with pytest.raises(UserError, match="final_state: cuts must have pt"):
        read_spec(tmp_path)
