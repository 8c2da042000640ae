"""The data module of amplitudes."""

from __future__ import annotations

import itertools

import h5py
import numpy as np
import pytest
import torch

from data.amplitudes import command, files
from data.amplitudes.processes import PROCESSES
from data.errors import DataError
from experiments.data.amplitude_data import AmplitudeData
from experiments.errors import UserError

OPTIONS = {
    "path": None, "process": "zg", "events": 60, "eval_events": 20, "generation_seed": 1,
    "table": None, "types": None, "masses": None, "batch_size": 16, "eval_batch_size": 7,
    "frame_velocity": 0.1, "limit": 0, "seed": 1, "shares": (0.8, 0.1, 0.1),
}  # fmt: skip


def module(**changed):
    data = AmplitudeData(**{**OPTIONS, **changed})
    data.setup()
    return data


def mass_squared(p):
    return p[..., 0] ** 2 - (p[..., 1:] ** 2).sum(-1)


def test_batches():
    """Momenta of one event beside the target of another; float32 on the way."""
    data = module()
    assert data.num_jets() == {"train": 60, "val": 20, "test": 20}
    assert data.spec.num_scalars == 3 and data.spec.num_outputs == 1 and not data.spec.classes
    for batch in data.train_dataloader():
        assert batch.fourmomenta.dtype == batch.target.dtype == torch.float64
        assert len(batch) == 16 and batch.packing.lengths == (4,) * 16
        p = batch.fourmomenta.view(16, 4, 4)
        missing = p[:, :2].sum(1) - p[:, 2:].sum(1)
        assert missing.abs().max() < 1e-9 * p.max()
        assert (mass_squared(p[:, 2]).sqrt() - 91.188).abs().max() < 1e-6
        kinds = torch.eye(3)[[0, 0, 1, 2]]  # quark, antiquark, Z, gluon
        assert torch.equal(batch.scalars.view(16, 4, 3), kinds.expand(16, 4, 3))
        exact = PROCESSES["zg"].squared_amplitude(p.numpy())
        np.testing.assert_allclose(batch.target.numpy(), np.log(exact), rtol=1e-7)


@pytest.mark.parametrize("name", ["types", "masses"])
def test_what_is_known_is_not_given(name):
    with pytest.raises(UserError, match=rf"data\.{name}: describes rows of numbers"):
        module(**{name: [0, 0, 1, 2]})


def test_frames():
    still, moving = module(frame_velocity=0.0), module()
    for data, many in ((still, False), (moving, True)):
        p = next(iter(data.val_dataloader())).fourmomenta.view(-1, 4, 4)
        momentum = p[:, :2].sum(1)[:, 1:].abs().max()
        assert (momentum > 1) == many
    targets = [torch.cat([b.target for b in d.test_dataloader()]) for d in (still, moving)]
    assert torch.equal(*targets)


def test_samples_do_not_depend_on_the_size_of_others():
    """A test sample that changes with the number of training events."""
    small, large = module(), module(events=200, limit=100)
    assert large.num_jets()["train"] == 100
    for split in ("val", "test"):
        assert small.identity({})[split] == large.identity({})[split]
    assert len({*small.identity({}).values(), *large.identity({}).values()}) == 4
    assert module(generation_seed=2).identity({})["test"] != small.identity({})["test"]


def test_a_loader_goes_on_where_it_was():
    data = module()
    whole = [b.target for _ in range(2) for b in data.train_dataloader()]
    loader = data.train_dataloader()
    seen = [b.target for b in itertools.islice(iter(loader), 2)]
    state = loader.state_dict()
    resumed = data.train_dataloader()
    resumed.load_state_dict(state)
    seen += [b.target for b in resumed]
    assert len(seen) == 3  # the incomplete last batch is left out
    for a, b in zip(seen, whole, strict=False):
        assert torch.equal(a, b)
    second = next(iter(resumed)).target
    assert not torch.equal(second, whole[0])


def test_every_event_is_validated_once():
    data = module()
    targets = torch.cat([b.target for b in data.val_dataloader()])
    assert len(targets) == 20 and len(targets.unique()) == 20


def test_statistics_are_of_the_training_sample():
    data = module()
    p = data.events["train"].fourmomenta.numpy()
    target = np.log(PROCESSES["zg"].squared_amplitude(p))
    assert data.target_statistics() == pytest.approx((target.mean(), target.std()))


def test_files(tmp_path):
    file = tmp_path / "zg.h5"
    command.main(["--process", "zg", "--events", "100", "--out", str(file)])
    data = module(path=str(file), eval_limit=5)
    assert data.num_jets() == {"train": 80, "val": 5, "test": 5}
    sample = files.read(file, "train")
    rows = np.concatenate([sample.momenta.reshape(80, 16), sample.amplitudes[:, None]], 1)
    np.save(tmp_path / "rows.npy", rows)
    known = {"types": sample.types, "masses": sample.masses}
    data = module(path=str(tmp_path / "rows.npy"), **known)
    assert data.num_jets() == {"train": 64, "val": 8, "test": 8}
    found = data.events["val"].target.exp().numpy()
    np.testing.assert_allclose(found, sample.amplitudes[64:72], rtol=1e-12)
    shared = module(path=str(tmp_path / "rows.npy"), **known, shares=(0.5, 0.25, 0.25))
    assert shared.num_jets() == {"train": 40, "val": 20, "test": 20}
    with h5py.File(tmp_path / "amplitudes.hdf5", "w") as table:
        table["zg"] = rows
    same = module(path=str(tmp_path / "amplitudes.hdf5"), table="zg", **known)
    assert torch.equal(same.events["val"].target, data.events["val"].target)
    with pytest.raises(UserError, match=r"data\.table: describes rows of numbers"):
        module(table="zg")
    with pytest.raises(UserError, match=r"data\.shares=.*three shares"):
        module(shares=(0.5, 0.6, 0.2))
    with pytest.raises(UserError, match=r"give data\.types, data\.masses"):
        module(path=str(tmp_path / "rows.npy"))
    np.save(tmp_path / "few.npy", rows[:3])
    with pytest.raises(DataError, match="leave none for test"):
        module(path=str(tmp_path / "few.npy"), **known)
