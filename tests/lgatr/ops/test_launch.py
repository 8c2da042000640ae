"""Launches of kernels: what was compiled for arguments of one kind is called for that kind alone.

A stand-in takes the place of what Triton compiles, for which a GPU would be needed.
"""

from __future__ import annotations

import pytest
import torch

triton = pytest.importorskip("triton", reason="Triton is not installed: pip install triton")

import triton.language as tl  # noqa: E402

from lgatr.ops._runtime import triton_launch as launch  # noqa: E402
from lgatr.ops._runtime.triton_launch import Kernel  # noqa: E402

GPU, STREAM = 1, 1234
LARGE = 1 << 31


class OnGPU(torch.Tensor):
    """A tensor that says it is on a GPU."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    device_number = GPU

    def get_device(self):
        return self.device_number


def tensor(dtype=torch.float32, offset=0, device=GPU):
    """Aligned to 16 bytes unless there is an offset."""
    x = torch.zeros(64, dtype=dtype)
    x = x[(-x.data_ptr() // x.element_size()) % 16 + offset :].as_subclass(OnGPU)
    x.device_number = device
    return x


class Compiled:
    """What Triton returns from a launch; notes its own launches."""

    function, packed_metadata = "function", "metadata"

    def __init__(self):
        self.launched = []

    def run(self, *arguments):
        self.launched.append(arguments)


def _doubled(x, y, n, m, scale, FLAG: tl.constexpr, BLOCK: tl.constexpr):
    pass


class Launches:
    """A kernel, what was compiled for it, and what Triton was given."""

    def __init__(self, monkeypatch, compiled=Compiled, **options):
        self.compiled, self.given = [], []
        fn = triton.runtime.JITFunction(_doubled, **options)

        def run(*arguments, grid, warmup, **named):
            self.given.append((grid, arguments, named))
            self.compiled.append(compiled())
            return self.compiled[-1]

        monkeypatch.setattr(fn, "run", run)
        monkeypatch.setattr(launch, "current_stream", lambda device: STREAM + device)
        self.kernel = Kernel(fn)

    def __call__(self, *arguments, grid=(7,), **named):
        named = {"FLAG": True, "BLOCK": 64, "num_warps": 4, **named}
        self.kernel[grid](*arguments, **named)
        return len(self.compiled)


@pytest.fixture
def launches(monkeypatch):
    return Launches(monkeypatch)


def arguments(**changed):
    given = {"x": tensor(), "y": tensor(), "n": 5, "m": 5, "scale": 0.5}
    return list({**given, **changed}.values())


def test_the_first_launch_is_one_of_triton(launches):
    """A kernel that is called without having been compiled, or with other arguments."""
    given = arguments()
    launches(*given, grid=(7, 2))
    ((grid, found, named),) = launches.given
    assert grid == (7, 2) and all(a is b for a, b in zip(found, given, strict=True))
    assert named == {"FLAG": True, "BLOCK": 64, "num_warps": 4}
    assert not launches.compiled[0].launched


@pytest.mark.parametrize("grid", [(7,), (7, 2), (7, 2, 3)])
def test_later_ones_call_what_was_compiled(launches, grid):
    """Arguments left out, constants in the order of the call, options among the arguments."""
    launches(*arguments())
    given = arguments(n=3, m=700, scale=1.5)
    # The order in which constants are named does not matter for what is called.
    assert launches(*given, grid=grid) == 1
    launches.kernel[grid](*given, BLOCK=32, num_warps=4, FLAG=False)
    launches.kernel[grid](*given, BLOCK=32, num_warps=4, FLAG=False)
    first, second = launches.compiled
    expected = [*(*grid, 1, 1)[:3], STREAM + GPU, "function", "metadata", None, None, None]
    for compiled, constants in ((first, [True, 64]), (second, [False, 32])):
        (found,) = compiled.launched
        assert list(found[:9]) == expected
        assert all(a is b for a, b in zip(found[9:14], given, strict=True))
        assert list(found[14:]) == constants


KINDS = {
    "alignment": {"x": tensor(offset=1)},
    "alignment of another": {"y": tensor(offset=1)},
    "format": {"x": tensor(torch.float16)},
    "none": {"y": None},
    "one": {"n": 1},
    "multiple of 16": {"n": 32},
    "beyond 32 bits": {"n": LARGE + 5},
    "far below zero": {"n": -LARGE - 5},
    "large multiple of 16": {"n": LARGE},
    "another one": {"m": 1},
    "whole number": {"scale": 2},
    "device": {"x": tensor(device=0)},
    "constant": {"BLOCK": 32},
    "option": {"num_warps": 8},
    "another option": {"num_stages": 3},
}
CONSTANTS = ("BLOCK", "num_warps", "num_stages")


def split(changed):
    named = {name: value for name, value in changed.items() if name in CONSTANTS}
    return arguments(**{k: v for k, v in changed.items() if k not in named}), named


@pytest.mark.parametrize("kind", KINDS)
def test_another_kind_is_compiled_anew(launches, kind):
    """Machine code for aligned pointers, small numbers or another GPU that is called for others."""
    launches(*arguments())
    given, named = split(KINDS[kind])
    assert launches(*given, **named) == 2
    assert launches(*given, **named) == 2 and launches(*arguments()) == 2
    assert [len(compiled.launched) for compiled in launches.compiled] == [1, 1]
    assert launches.compiled[1].launched[0][3] == STREAM + given[0].get_device()


def test_every_kind_is_another(launches):
    """Two kinds that count as one."""
    # Numbers of 64 bits are of one kind, whatever their sign.
    others = (changed for name, changed in KINDS.items() if name != "far below zero")
    for count, changed in enumerate(others, 1):
        given, named = split(changed)
        assert launches(*given, **named) == count


@pytest.mark.parametrize(
    "changed", [{"n": 7}, {"n": -3}, {"scale": 1.0}, {"scale": 16.0}, {"x": tensor(offset=4)}]
)
def test_other_values_of_one_kind(launches, changed):
    """A compilation for each number of tokens."""
    launches(*arguments())
    assert launches(*arguments(**changed)) == 1


def test_numbers_that_triton_does_not_look_at(monkeypatch):
    """A compilation for what makes no difference; 32 bits for a number of 64."""
    launches = Launches(monkeypatch, do_not_specialize=["n"])
    for number in (5, 1, 16, 0):
        assert launches(*arguments(n=number)) == 1
    assert launches(*arguments(n=LARGE)) == 2
    assert [launches(*arguments(m=m)) for m in (1, 16, 0, 32)] == [3, 4, 4, 4]


def test_tuples_of_numbers(launches):
    """Numbers in a tuple count as those beside it."""
    assert [launches(*arguments(n=n)) for n in ((5, 1), (7, 1), (5, 2), (5, 1, 1))] == [1, 1, 2, 3]


def test_a_tuple_of_tensors_first(launches):
    """A GPU that is looked for in the first argument alone, so that nothing is remembered."""
    several = tensor(), tensor()
    assert [launches(*arguments(x=x)) for x in (several, several, several[:1])] == [1, 1, 2]
    assert launches.compiled[0].launched[0][3] == STREAM + GPU


def test_kinds_are_those_of_triton():
    """Something that Triton compiles for, and that is not looked at here."""
    specialize = getattr(triton.runtime.jit, "native_specialize_impl", None)
    if specialize is None:
        pytest.skip(f"Triton {triton.__version__} has this elsewhere")
    numbers = [0, 1, -1, 5, 16, -16, LARGE - 1, LARGE, LARGE + 1, -LARGE, -LARGE - 1, -LARGE - 16]
    formats = (torch.float32, torch.float16, torch.int64)
    values = [*numbers, 0.5, 1.0, None, *(tensor(d, o) for d in formats for o in (0, 1))]
    backend = triton.backends.compiler.BaseBackend
    for plain in (False, True):
        ours, theirs = [], []
        for x in values:
            ours.append(launch.kinds((x,), (plain,)))
            given = x.as_subclass(torch.Tensor) if isinstance(x, torch.Tensor) else x
            theirs.append(specialize(backend, given, False, not plain, True))
        for i, x in enumerate(values):
            for j, y in enumerate(values):
                assert theirs[i] == theirs[j] or ours[i] != ours[j], (x, y, plain)


def test_what_cannot_be_called_is_launched_by_triton(monkeypatch):
    """Results of Triton in which there is nothing to call: of a CPU, or of another version."""
    launches = Launches(monkeypatch, compiled=object)
    assert [launches(*arguments()) for _ in range(2)] == [1, 2]
    launches = Launches(monkeypatch)
    on_cpu = arguments(x=torch.zeros(4))
    assert [launches(*on_cpu) for _ in range(2)] == [1, 2]


def test_constants_come_last():
    """Arguments that would be called in another order than they were compiled for."""

    def mixed(x, BLOCK: tl.constexpr, n):
        pass

    with pytest.raises(ValueError, match="constants of mixed come after"):
        Kernel(triton.runtime.JITFunction(mixed))


def test_a_wrong_number_of_arguments(launches):
    """An argument that is left out, and the next in its place."""
    launches(*arguments())
    with pytest.raises(ValueError):
        launches(*arguments()[:-1])
