"""The table of backends, measuring, and what ``auto`` remembers."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
import torch

from lgatr.attention import (
    AttentionSpec,
    Causal,
    MaskMod,
    Packing,
    backends,
    prepare_attention,
    select_backend,
)
from lgatr.attention import measured_choice as choice
from lgatr.attention.__main__ import main
from lgatr.attention.pattern.features import PATTERN_FEATURES, examples
from lgatr.attention.tools.event_lengths import read_lengths
from lgatr.attention.tools.table import markdown, properties
from support import jetfiles, networks

CPU = torch.device("cpu")


def test_the_table_names_everything():
    page = markdown()
    for name in (*backends(), *PATTERN_FEATURES):
        assert f"| {name} |" in page


def test_features_exist_and_examples_need_what_they_say():
    for backend in backends().values():
        assert backend.capabilities.features <= set(PATTERN_FEATURES)
    for name, make in examples().items():
        assert name in make().features()
    assert set(PATTERN_FEATURES) - set(examples()) == {"dense", "mask", "partial"}


def test_every_example_runs_natively():
    for name, make in examples().items():
        spec = make()
        keys = spec.storage
        places = 40 if keys is None or keys.num_places is None else keys.num_places
        if keys is None:
            places = spec.key_packing.num_tokens
        q, k, v = (torch.randn(n, 2, 4) for n in (8, places, places))
        planner, executor = select_backend("native", spec, CPU, torch.float32)
        out = executor.attend(q, k, v, spec, planner.plan(spec, CPU))
        assert out.shape == q.shape and out.isfinite().all(), name


def test_a_mask_without_a_kernel_anywhere_is_refused_on_every_device():
    """A CPU only stands in for what the backend can do on another device."""
    pytest.importorskip("xformers", reason="xFormers is not installed")
    packing = Packing.from_lengths([3, 2])
    for mask in (MaskMod(lambda b, h, q, k: q != k), ~Causal()):
        with pytest.raises(ValueError, match="attention=xformers: no kernel for.*mask_mod"):
            select_backend("xformers", AttentionSpec(packing, mask=mask), CPU, torch.float32)


def test_another_native_backend_is_taken_at_once(monkeypatch):
    """What was found to run is remembered, and may be registered anew."""
    options = {"packing": Packing.from_lengths([3, 2]), "backend": "native"}
    first, second = (prepare_attention(CPU, torch.float32, **options).backend for _ in range(2))
    assert first is not second, "what a backend keeps belongs to one forward pass"

    class Own(type(first)):
        pass

    monkeypatch.setitem(backends(), "native", Own)
    assert type(prepare_attention(CPU, torch.float32, **options).backend) is Own
    monkeypatch.undo()
    assert type(prepare_attention(CPU, torch.float32, **options).backend) is type(first)


def test_main_prints_the_table(capsys):
    main(["--device", "cpu"])
    printed = capsys.readouterr().out
    for name in backends():
        assert name in printed


@pytest.fixture
def lengths_file(tmp_path):
    path = tmp_path / "lengths.txt"
    path.write_text("5 9 5\n3, 7\n")
    return path


def test_measure_is_remembered(lengths_file, capsys, monkeypatch):
    small = ["--heads", "2", "--width", "8", "--repeats", "1", "--device", "cpu"]
    main(["--measure", str(lengths_file), *small])
    printed = capsys.readouterr()
    assert "native, packed" in printed.out and "native, padded" in printed.out
    assert "flash: not installed" in printed.err or "flash" in printed.out
    assert list(json.loads(choice.path().read_text()).values()) == ["native"]
    spec = AttentionSpec(packing=Packing.from_lengths([3]))
    with torch.no_grad():
        assert select_backend("auto", spec, CPU, torch.float32)[0].name == "native"
        choice.save_fastest_backend(CPU, torch.float32, True, "flex")
        assert select_backend("auto", spec, CPU, torch.float32)[0].name == "flex"
    # Not where it cannot run: training on a CPU.
    assert select_backend("auto", spec, CPU, torch.float32)[0].name == "native"


@pytest.mark.parametrize("kind", networks.KINDS)
def test_measure_a_network(kind, lengths_file, tmp_path, capsys):
    networks.build(kind).save_pretrained(tmp_path / "net")
    main(["--measure", str(lengths_file), "--model", str(tmp_path / "net"), "--repeats", "1",
          "--device", "cpu"])  # fmt: skip
    printed = capsys.readouterr().out
    assert (
        f"{kind.__name__} of " in printed
        and "native, packed" in printed
        and "native, padded" in printed
    )
    assert list(json.loads(choice.path().read_text()).values()) == ["native"]


def test_measure_no_network(lengths_file, tmp_path):
    with pytest.raises(SystemExit, match="error: .*no such file"):
        main(["--measure", str(lengths_file), "--model", str(tmp_path), "--device", "cpu"])


def test_an_unreadable_choice_is_no_error():
    choice.path().parent.mkdir(parents=True)
    choice.path().write_text("{half a fi")
    assert choice.fastest_backend(CPU, torch.float32, True) is None


def test_lengths_from_files(tmp_path, lengths_file):
    assert read_lengths(lengths_file) == [5, 9, 5, 3, 7]
    np.save(tmp_path / "n.npy", np.array([4, 0, 2]))
    assert read_lengths(tmp_path / "n.npy") == [4, 2]
    with h5py.File(tmp_path / "jets.h5", "w") as file:
        file["test/offsets"] = np.array([0, 3, 10])
    assert read_lengths(tmp_path / "jets.h5") == [3, 7]


def test_lengths_of_padded_events(tmp_path):
    momenta = np.ones((3, 5, 4), dtype=np.float32)
    momenta[0, 2:] = momenta[2, 4:] = 0
    with h5py.File(tmp_path / "padded.h5", "w") as file:
        file["names"] = [b"a", b"b"]
        file["jets"] = momenta
    assert read_lengths(tmp_path / "padded.h5") == [2, 5, 4]
    jets, labels = jetfiles.random_jets(20, seed=0)
    jetfiles.write_pandas(tmp_path / "table.h5", jets, labels)
    assert read_lengths(tmp_path / "table.h5") == (jets[..., 0] > 0).sum(1).tolist()


@pytest.mark.parametrize("content", ["", "five"])
def test_bad_files(tmp_path, content):
    path = tmp_path / "bad.txt"
    path.write_text(content)
    with pytest.raises(SystemExit, match="error: "):
        main(["--measure", str(path), "--device", "cpu"])
    with pytest.raises(SystemExit, match="not a file"):
        main(["--measure", str(tmp_path / "none"), "--device", "cpu"])


@pytest.mark.parametrize(
    ("name", "match"), [("bad.npy", "or damaged"), ("bad.h5", "no readable HDF5")]
)
def test_damaged_files(tmp_path, name, match):
    (tmp_path / name).write_text("junk")
    with pytest.raises(SystemExit, match=f"error: .*{match}"):
        main(["--measure", str(tmp_path / name), "--device", "cpu"])


@pytest.mark.parametrize(
    ("options", "match"),
    [(["--device", "foo"], "--device foo"), (["--device", "cpu", "--events", "0"], "at least 1")],
)
def test_bad_options(options, match):
    with pytest.raises(SystemExit, match=f"error: .*{match}"):
        main(options)


def test_properties_know_about_inference():
    assert properties()["flex"][0] == "cpu (inference), cuda"
