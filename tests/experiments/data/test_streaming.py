"""Streams of jets: everything once, mixed, and resumable at any batch."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import warnings
from dataclasses import replace

import h5py
import lightning
import numpy as np
import pytest
import torch

from data.errors import DataError
from data.formats import Format, packed
from data.identity import DAMAGED
from data.jets import Jets
from experiments.data.chunk_stream import JetStream, Shards
from experiments.data.preparation import Preparation
from experiments.data.stream_loader import StreamLoader
from experiments.data.streaming_datamodule import StreamedData
from support import ROOT
from support.slow import slow_but_for

COUNTS = (23, 40, 17)
TOTAL = sum(COUNTS)


@pytest.fixture
def folder(tmp_path):
    """Jets of one particle each, whose energy is the jet's number, in three files per split."""
    first = 1
    for number, count in enumerate(COUNTS):
        energies = np.arange(first, first + count, dtype=np.float32)
        first += count
        momenta = np.stack([energies, *np.zeros((3, count), np.float32)], axis=1)
        labels = np.arange(count) % 3
        jets = Jets(
            momenta, np.arange(count + 1), labels, "test", ("a", "b", "c"),
            {"charge": energies % 2},
        )  # fmt: skip
        for split in ("train", "val", "test"):
            (tmp_path / split).mkdir(exist_ok=True)
            packed.write(tmp_path / split / f"{number}.h5", {split: jets}, {}, compress=False)
    return tmp_path


def stream(folder, seed=1, rank=0, world_size=1, batch_size=4, skip_corrupt=False):
    shards = Shards.find(Format(packed), folder, "train", skip_corrupt)
    return JetStream(
        shards, Preparation(("charge",)), batch_size, 5, 3, seed, rank, world_size, skip_corrupt
    )


def numbers(batches):
    return [b.fourmomenta[:, 0].int().tolist() for b in batches]


def take(loader, count):
    found = []
    for batch in loader:
        found.append(batch)
        if len(found) == count:
            break
    return found


def test_one_pass_in_order(folder):
    batches = list(stream(folder, seed=None))
    assert sorted(sum(numbers(batches), [])) == list(range(1, TOTAL + 1))
    for batch in batches:
        assert torch.equal(batch.scalars[:, 0], batch.fourmomenta[:, 0] % 2)


def test_training_sees_every_jet_once_in_a_pass(folder):
    seen = sum(numbers(take(stream(folder), TOTAL // 4)), [])
    assert sorted(seen) == list(range(1, TOTAL + 1))
    later = sum(numbers(take(stream(folder), TOTAL // 2)), [])[TOTAL:]
    assert sorted(later) == sorted(seen) and later != seen


def test_files_are_mixed(folder):
    batches = numbers(take(stream(folder), 10))
    files = [np.digitize(batch, np.cumsum(COUNTS) + 1) for batch in batches]
    assert np.mean([len(set(f.tolist())) > 1 for f in files]) > 0.5


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", slow_but_for([6, 45], [1, 6, 21, 45]))
def test_resumes_at_the_exact_batch(folder, workers, stop):
    expected = numbers(take(StreamLoader(stream(folder), workers), stop + 7))
    loader = StreamLoader(stream(folder), workers)
    take(loader, stop)
    state = loader.state_dict()
    assert state == {"position": stop}
    again = StreamLoader(stream(folder), workers)
    again.load_state_dict(state)
    assert numbers(take(again, 7)) == expected[stop:]
    assert again.state_dict() == {"position": stop + 7}


def test_iterators_draw_nothing_from_the_global_generator(folder):
    before = torch.get_rng_state()
    take(StreamLoader(stream(folder), 0), 3)
    assert torch.equal(torch.get_rng_state(), before)


def test_ranks_share_the_jets(folder):
    seen = []
    for rank in range(2):
        found = sum(numbers(take(stream(folder, rank=rank, world_size=2), 9)), [])
        seen.append(set(found))
    assert not seen[0] & seen[1]
    passes = [sum(numbers(stream(folder, None, rank, 2)), []) for rank in range(2)]
    assert sorted(passes[0] + passes[1]) == list(range(1, TOTAL + 1))


class TestDamage:
    def cut(self, folder):
        file = folder / "train" / "1.h5"
        file.write_bytes(file.read_bytes()[:3000])

    def test_named(self, folder):
        self.cut(folder)
        with pytest.raises(DataError, match=r"1\.h5.*data.skip_corrupt=true"):
            stream(folder)

    def test_skipped_and_counted(self, folder, capsys):
        self.cut(folder)
        module = data(folder, skip_corrupt=True)
        module.setup()
        assert module.num_jets()["train"] == TOTAL - COUNTS[1]
        assert module.skipped() == {"files": 1, "parts": 0}
        assert "skipped: " in capsys.readouterr().err

    def poison(self, folder):
        """A file that opens, and holds a NaN."""
        file = folder / "train" / "1.h5"
        jets = packed.read_file(file, "train")
        content = file.read_bytes()
        with h5py.File(file, "r+") as opened:
            opened.attrs["version"] = 2  # without checksums
            opened["train/constituents"][12, 1] = np.nan
        assert file.read_bytes() != content and len(jets) == COUNTS[1]

    def test_inside_a_file(self, folder):
        self.poison(folder)
        with pytest.raises(DataError, match=r"1\.h5.*NaN"):
            take(stream(folder), TOTAL // 4)
        lossy = stream(folder, skip_corrupt=True)
        seen = sum(numbers(take(lossy, (TOTAL - 5) // 4)), [])
        assert int(lossy.lost_chunks) == 1
        assert set(range(1, TOTAL + 1)) - set(seen) >= set(range(34, 39))

    def test_a_file_that_changes_while_it_is_read(self, folder):
        jets = stream(folder, seed=None)
        batches = iter(jets)
        next(batches)
        last = folder / "train" / "2.h5"
        last.write_bytes(last.read_bytes() + b"more")
        with pytest.raises(DataError, match=r"2\.h5: was changed or removed while it was being"):
            list(batches)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_all_files_vanish(self, folder, workers):
        """Skipping on and on would be a run that hangs."""
        loader = StreamLoader(stream(folder, skip_corrupt=True), workers)
        for file in (folder / "train").glob("*.h5"):
            file.unlink()
        with pytest.raises(DataError, match="none of the files can be read any more"):
            take(loader, 10**6)

    def test_other_classes(self, folder, capsys):
        """The numbers of their labels mean something else."""
        jets = packed.read_file(folder / "train" / "1.h5", "train")
        jets = replace(jets, classes=("b", "a", "c"), constituents=np.array(jets.constituents))
        packed.write(folder / "train" / "1.h5", {"train": jets}, {}, compress=False)
        with pytest.raises(DataError, match=r"1\.h5: has classes b, a, c.*first file.*a, b, c"):
            take(stream(folder), TOTAL // 4)
        take(lossy := stream(folder, skip_corrupt=True), COUNTS[0] // 4)
        assert int(lossy.lost_chunks) > 0

    def test_other_classes_in_another_split(self, folder):
        for file in (folder / "val").glob("*.h5"):
            jets = packed.read_file(file, "val")
            jets = replace(jets, classes=("b", "a", "c"), constituents=np.array(jets.constituents))
            packed.write(file, {"val": jets}, {}, compress=False)
        with pytest.raises(DataError, match="classes of val are b, a, c, those of train a, b, c"):
            data(folder).setup()

    def test_the_first_file_is_damaged(self, folder):
        file = folder / "train" / "0.h5"
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 255
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"0\.h5.*checksum.*data.skip_corrupt=true"):
            data(folder).setup()
        module = data(folder, skip_corrupt=True)
        module.setup()
        assert module.skipped()["files"] == 1 and module.spec.classes == ("a", "b", "c")

    def test_in_a_worker(self, folder):
        self.poison(folder)
        with pytest.raises(DataError, match=r"1\.h5.*NaN"):
            take(StreamLoader(stream(folder), 2), TOTAL // 4)
        assert not multiprocessing.active_children(), "workers end with the iteration"

    def test_too_many_workers(self, folder):
        with pytest.raises(DataError, match="lower data.chunk_size"):
            take(stream(folder, rank=0, world_size=40), 1)


@pytest.mark.slow
def test_a_program_ends_in_the_middle_of_a_pass(folder):
    """Workers ignore the one SIGTERM that they are sent at its end."""
    program = (
        "from pathlib import Path\n"
        "from data.formats import Format, packed\n"
        "from experiments.data.chunk_stream import JetStream, Shards\n"
        "from experiments.data.stream_loader import StreamLoader\n"
        "from experiments.data.preparation import Preparation\n"
        f"shards = Shards.find(Format(packed), Path({str(folder)!r}), 'train', False)\n"
        "stream = JetStream(shards, Preparation(('charge',)), 4, 5, 3, 1, 0, 1, False)\n"
        "batches = iter(StreamLoader(stream, 2))\n"
        "next(batches)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0


def data(folder, **options):
    arguments = {
        "path": str(folder), "batch_size": 8, "eval_batch_size": 16, "features": ["charge"],
        "max_constituents": 0, "augmentations": [], "limit": 0, "eval_limit": 0,
        "chunk_size": 5, "mix": 3, "num_workers": 0, "skip_corrupt": False, "seed": 1, **options,
    }  # fmt: skip
    return StreamedData(**arguments)


def test_module(folder):
    module = data(folder, limit=30, eval_limit=12)
    module.setup()
    assert module.num_jets() == {"train": 30, "val": 12, "test": 12}
    assert module.spec.classes == ("a", "b", "c") and module.spec.num_outputs == 3
    assert sum(len(b) for b in module.test_dataloader()) == 12
    assert {len(b) for b in take(module.train_dataloader(), 20)} == {8}


def test_other_files_are_noticed(folder):
    def identity(**options):
        module = data(folder, **options)
        module.setup()
        return module.identity(before)

    before: dict[str, str] = {}
    before = identity()
    assert len(before) == 9
    (folder / "val" / "1.h5").rename(folder / "val" / "1b.h5")
    (folder / "train" / "1.h5").write_bytes((folder / "train" / "0.h5").read_bytes())
    (folder / "test" / "2.h5").write_bytes(b"damaged")
    after = identity(skip_corrupt=True)
    assert {name for name in {*before, *after} if before.get(name) != after.get(name)} == {
        "val/1.h5", "val/1b.h5", "train/1.h5", "test/2.h5"
    }  # fmt: skip
    assert after["test/2.h5"] == DAMAGED


def test_memory_stays_flat(folder):
    """Buffers hold one group of chunks and less than a batch."""
    found = stream(folder)
    sizes = []
    original = found._read
    found._read = lambda chunks: sizes.append(sum(map(len, chunks))) or original(chunks)
    take(found, 60)
    assert max(sizes) <= 3 * 5


class Watcher(lightning.LightningModule):
    """Notes where the loader says it is when each step ends, as a checkpoint would."""

    def __init__(self, loader):
        super().__init__()
        self.loader, self.places = loader, []
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch, number):
        return self.weight.sum()

    def on_train_batch_end(self, *_):
        self.places.append(self.loader.state_dict()["position"])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_checkpoint_knows_the_batch_in_training(folder, workers):
    loader = StreamLoader(stream(folder), workers)
    watcher = Watcher(loader)
    warnings.filterwarnings("ignore", ".*IterableDataset. has .__len__. defined.*")
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated.*")
    trainer = lightning.Trainer(
        max_steps=7, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(watcher, loader)
    assert watcher.places == [1, 2, 3, 4, 5, 6, 7]
