"""Every call of a kernel in C++ is checked: the table against the sources, and calls by fuzzing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lgatr.attention.backends.native import cpu as _declared  # noqa: F401
from lgatr.ops._runtime import build as native_build
from lgatr.ops._runtime import cpu as native
from lgatr.ops._runtime.arguments import Array, Heads, Real, Size, State
from lgatr.ops._runtime.choice import Operation
from support import native_fuzz

Operation.load_all()
SIGNATURES = {name: kernel.arguments for name, kernel in native.KERNELS.items()}
FALLIBLE = {name for name, kernel in native.KERNELS.items() if kernel.fallible}

NUMBERS = {"Index*": torch.int64, "Byte*": torch.uint8}
KINDS = {"State*": State, "T*": Array, "Heads*": Heads, "Index": Size, "double": Real}


@pytest.fixture(autouse=True)
def built():
    if not native.has_native_kernels(torch.zeros(1)):
        pytest.skip("no C++ compiler")


def prototypes():
    """Of all functions in the sources: what they return, and type and constness of arguments."""
    found = {}
    for source in native_build._SOURCES:
        text = source.read_text()
        for returned, name, inside in re.findall(r"(\w+) lgatr_(\w+)\(([^)]*)\)", text):
            found[name] = (returned, [" ".join(a.split()) for a in inside.split(",")])
    return found


def test_the_table_says_what_the_sources_say():
    found = prototypes()
    assert found.keys() == SIGNATURES.keys()
    assert FALLIBLE == {name for name, (returned, _) in found.items() if returned == "Status"}
    for name, (_, written) in found.items():
        assert len(written) == len(SIGNATURES[name]), name
        for text, (key, kind) in zip(written, SIGNATURES[name].items(), strict=True):
            const, c_type, own = re.fullmatch(r"(const )?(\w+\*?) (\w+)", text).groups()
            if c_type in NUMBERS:
                assert isinstance(kind, Array) and kind.dtype is NUMBERS[c_type]
                assert kind.written == (const is None), (name, key)
                continue
            assert isinstance(kind, KINDS[c_type]), (name, key)
            # Structures are const whether or not what they point to is; so are moved heads.
            if c_type == "T*" and not name.endswith(("from_heads", "to_heads")):
                assert kind.written == (const is None), (name, key)
            if len(key) > 1:
                assert key == own, (name, key)


def fuzz(trials, seed):
    """In a program of its own: a signal is its death and not ours."""
    done = subprocess.run(
        [sys.executable, native_fuzz.__file__, str(trials), str(seed)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(native_build.__file__).parents[3])},
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    print(done.stdout.strip())
    equal, refused = (int(re.search(rf"(\d+) {word}", done.stdout)[1]) for word in ("equal", "ref"))
    assert min(equal, refused) > trials * len(SIGNATURES) / 10
    assert equal + refused == trials * len(SIGNATURES)


def test_wrong_calls_are_refused_and_right_ones_equal_the_formula():
    fuzz(25, 1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2])
def test_many_wrong_calls(seed):
    fuzz(300, seed)


def attention(**changed):
    q, k, v, out = (torch.randn(5, 2, 4) for _ in range(4))
    ptr = torch.tensor([0, 2, 5])
    given = {"q": q, "k": k, "v": v, "out": out, "lse": q.new_empty(5, 2), "queries": ptr}
    given |= {"keys": ptr, "T": 5, "U": 5, "B": 2, "H": 2, "D": 4, "scale": 1.0, "causal": False}
    assert list(given) == list(SIGNATURES["attention"])
    native_fuzz.call("attention", q, *{**given, **changed}.values())
    return changed


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"queries": torch.tensor([0, 7, 5])}, "offsets of queries must rise from 0"),
        ({"queries": torch.tensor([1, 2, 5])}, "offsets of queries must rise from 0"),
        ({"keys": torch.tensor([0, 2, 6])}, "offsets of keys must rise from 0"),
        ({"keys": torch.tensor([0, 2**62, 5])}, "offsets of keys must rise from 0"),
        ({"keys": torch.tensor([0, -3, 5])}, "offsets of keys must rise from 0"),
        ({"keys": torch.tensor([0, 2, 5]).int()}, "torch.int64"),
        ({"B": 3}, r"queries has shape \(3,\)"),
        ({"T": 6}, r"q has shape \(5, 2, 4\)"),
        ({"scale": 0.0}, "positive finite"),
        ({"scale": float("nan")}, "positive finite"),
        ({"out": torch.randn(1, 2, 4).expand(5, 2, 4)}, "on top of itself"),
        ({"out": torch.randn(5, 4, 2).mT}, "the last must be 1"),
        ({"q": torch.randn(5, 2, 4).double()}, "torch.float64"),
        ({"v": torch._neg_view(torch.randn(5, 2, 4))}, "resolve_neg"),
        ({"k": torch.randn(5, 2, 4).to_sparse()}, "no memory"),
        ({"k": torch.empty(5, 2, 4, device="meta")}, "on meta"),
    ],
)
def test_messages(changed, message):
    with pytest.raises(ValueError, match=message) as error:
        attention(**changed)
    assert str(error.value).startswith("kernel attention: ") and "\n" not in str(error.value)


def test_a_freed_tensor_is_refused():
    k = torch.randn(5, 2, 4)
    k.untyped_storage().resize_(0)
    with pytest.raises(ValueError, match="has no memory"):
        attention(k=k)


def test_no_keys_and_no_room():
    out = torch.full((5, 2, 4), 7.0)
    none = torch.randn(0, 2, 4)
    attention(out=out, k=none, v=none, keys=torch.tensor([0, 0, 0]), U=0)
    assert (out == 0).all()
    many = 2**55
    k = torch.randn(1, 2, 4).expand(many, 2, 4)
    with pytest.raises(MemoryError, match="no memory for the scores"):
        attention(k=k, v=k, keys=torch.tensor([0, 0, many]), U=many)


def test_nothing_to_write_is_done_at_once():
    empty = torch.empty(2**50, 4, 0)
    native_fuzz.call("slim_inner", empty, empty, torch.empty(2**50, 0), 2**50, 0)
