"""Calls of the kernels in C++, right and wrong ones: ``python native_fuzz.py TRIALS SEED``.

Each trial draws a kernel's sizes, tensors for them with any strides that are allowed, and in half
the cases one mistake. It must end in the results of the same call in double precision with
contiguous copies, with nothing written beside them, or in a ValueError, TypeError or MemoryError;
and a call without a mistake in the results. That contiguous calls equal the formulas is proved by
the tests of the stages.
"""

from __future__ import annotations

import faulthandler
import math
import random
import sys
from collections import Counter

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from lgatr.attention.backends.native import cpu as _declared  # noqa: F401
from lgatr.layout import Sectors
from lgatr.ops._runtime import cpu as native
from lgatr.ops._runtime.arguments import Array, Heads, Size, State
from lgatr.ops._runtime.choice import Operation

Operation.load_all()

REAL = (torch.float32, torch.float64)
GUARD = 7.25
EVENTS = {"queries": "T", "keys": "U"}
"""Offsets of events, and of how many tokens."""
counts: Counter[str] = Counter()


def call(name: str, like: torch.Tensor, *arguments: object) -> None:
    """Call the kernel ``lgatr_<name>`` for the format of ``like``."""
    found = native.KERNELS[name]
    assert len(arguments) == len(found.arguments)
    found.run(like, *arguments)


def sizes(source, names):
    found = {}
    for name, kind in names.items():
        if not isinstance(kind, Size):
            continue
        if name == "T" or name == "U":
            found[name] = source.choice((0, 1, 2, 3, 5, 66))
        elif name in ("W", "D"):
            even = kind.multiple == 2
            found[name] = source.choice((2, 4, 6, 8, 16, 32) if even else (kind.low, 1, 4, 8, 17))
        elif kind.high == 1:
            found[name] = bool(source.randrange(2))
        elif name == "metric":
            found[name] = source.choice((0, 1, 3, 2**61))
        else:
            found[name] = source.choice((kind.low, 1, 2, 3, 4, 7))
    if "B" in found:
        found["B"] = max(found["B"], 1)
    return found


def offsets(source, events, total):
    cuts = sorted(source.randint(0, total) for _ in range(events - 1))
    return torch.tensor([0, *cuts, total])


def strided(source, shape, dtype, generator):
    """A tensor whose last dimension is side by side, inside of a larger one; and the larger one."""
    if source.randrange(2):
        view, whole = inside(shape, dtype)
    else:
        *order, last = range(len(shape))
        source.shuffle(order)
        order.append(last)
        view = whole = torch.full(
            [shape[i] + source.randrange(3) for i in order], GUARD, dtype=dtype
        )
        for axis, i in enumerate(order):
            start = source.randint(0, whole.shape[axis] - shape[i])
            view = view.narrow(axis, start, shape[i])
        view = view.permute([order.index(i) for i in range(len(order))])
    view.copy_(torch.randn(shape, dtype=dtype, generator=generator))
    return view, whole


def inside(shape, dtype):
    """A contiguous tensor in the middle of a larger one; and the larger one."""
    count = math.prod(shape)
    whole = torch.full((count + 8,), GUARD, dtype=dtype)
    return whole[4 : 4 + count].view(shape), whole


def array(shape, dtype, generator, numbers):
    view, whole = inside(shape, dtype)
    if numbers:
        # Of factors and deviations too, which are positive.
        view.copy_(torch.rand(shape, dtype=dtype, generator=generator) + 0.5)
    return view, whole


def right_call(source, name, dtype, generator):
    """Arguments, and for those that are written the buffers around them."""
    table = native.KERNELS[name].arguments
    found = sizes(source, table)
    if "U" in found and source.randrange(3) == 0:
        found["U"] = found["T"]
    given = {}
    if {"M", "P", "R"} <= found.keys():
        given = {key: offsets(source, found["B"], found[n]) for key, n in EVENTS.items()}
        n, m = (given[key].diff() for key in EVENTS)
        found["P"], found["R"] = int((n * m).sum()), int(((n + 63) // 64 * ((m + 63) // 64)).sum())
        found["M"] = source.choice((1, found.get("H", 2)))
    values = {key: found.get(key, 0.5) for key in table}
    shapes = iter(native.KERNELS[name].wanted(*values.values())[0])
    buffers = {}
    for key, kind in table.items():
        if isinstance(kind, State):
            parts = [strided(source, s, dtype, generator) for s in next(shapes)]
            values[key] = Sectors(*(p[0] for p in parts))
            buffers[key] = [p[1] for p in parts]
        elif isinstance(kind, Heads):
            values[key], whole = strided(source, next(shapes), dtype, generator)
            buffers[key] = [whole]
        elif isinstance(kind, Array):
            shape = next(shapes)
            if key in EVENTS:
                values[key] = given.get(key)
                if key not in given:
                    values[key] = offsets(source, found["B"], found[EVENTS[key]])
            elif kind.optional and source.randrange(3) == 0:
                values[key] = None
            elif kind.dtype is not None:  # positions, or flags
                low, high = (-3, 9) if kind.dtype is torch.int64 else (0, 3)
                values[key] = torch.randint(low, high, shape, dtype=kind.dtype, generator=generator)
                buffers[key] = [values[key]]
            else:
                sums = kind.optional and kind.written
                values[key], whole = array(shape, dtype, generator, not sums)
                values[key].zero_() if sums else None
                buffers[key] = [whole]
    if name == "norm_gradients" and values["from_outputs"]:
        values["weight"] = values["weight_s"] = None
    return values, buffers


def parts(x):
    """The tensors of an argument."""
    if isinstance(x, tuple):
        return list(x)
    return [x] if isinstance(x, torch.Tensor) else []


def spoiled(x, source):
    """Another tensor in its place."""
    kind = source.randrange(11)
    if kind == 0:
        return x.double() if x.dtype != torch.float64 else x.float()
    if kind == 1:
        return x.to("meta")
    if kind == 2 and x.dim():
        return torch.cat([x, x], source.randrange(x.dim()))
    if kind == 3 and x.dim() and x.numel():
        axis = source.randrange(x.dim())
        return x.narrow(axis, 0, x.shape[axis] - 1)
    if kind == 4 and x.dim() and x.numel():
        axis = source.randrange(x.dim())
        return x.narrow(axis, 0, 1).expand(x.shape)
    if kind == 5 and x.dim() > 1:
        return x.transpose(0, -1)
    if kind == 6 and x.dim() > 1:
        return x.transpose(0, -1).contiguous().transpose(0, -1)
    if kind == 7:
        x = x.clone()
        x.untyped_storage().resize_(0)
        return x
    if kind == 8:
        return source.choice((None, 3, "x", [1.0], x.tolist()))
    if kind == 9:
        return x.unsqueeze(0) if source.randrange(2) else x.flatten()
    if not x.is_floating_point():
        return source.choice((x.flip(0), x - 1, x + 1, x * 2**40, -x, x.int(), x[:-1]))
    nothing = torch.empty(0, dtype=x.dtype)
    return source.choice((x.bool(), x.int(), x.half(), x.to_sparse(), nothing, torch._neg_view(x)))


def mistake(values, source):
    """One argument is replaced; it may still be a right one."""
    key = source.choice(list(values))
    x = values[key]
    if isinstance(x, torch.Tensor):
        values[key] = spoiled(x, source)
    elif isinstance(x, tuple):
        i = source.randrange(3)
        values[key] = Sectors(*(spoiled(t, source) if i == j else t for j, t in enumerate(x)))
    elif isinstance(x, (bool, int)):
        near, far = (x + 1, x - 1, -x, 2 * x), (2**31, 2**62, 2**63, -(2**63), 2**70)
        values[key] = source.choice((*near, *far, 0.5, None, "1"))
    else:
        values[key] = source.choice((0.0, -1.0, float("inf"), float("nan"), 1e300, None, "x", 0.25))


def exact(x):
    """A contiguous copy in double precision, for the reference."""
    if isinstance(x, tuple):
        return Sectors(*(exact(part) for part in x))
    if not isinstance(x, torch.Tensor):
        return x
    if x.layout is torch.strided and x.numel() and x.data_ptr() == 0:
        raise RuntimeError("freed")  # torch itself would look at it
    return x.double().contiguous().clone() if x.is_floating_point() else x.contiguous().clone()


def same(a, b, dtype):
    """Whether the results ``a`` are those in double precision; what is not a number stays so."""
    a, tolerance = a.double(), 1e-9 if dtype == torch.float64 else 1e-3
    few = a.isfinite() & b.isfinite()
    if dtype == torch.float64:  # in single precision more overflows
        assert torch.equal(few, a.isfinite()) and torch.equal(few, b.isfinite())
    error, size = (a - b)[few].abs(), b[few].abs()
    assert not few.any() or error.max() <= tolerance * max(1.0, float(size.max())), error.max()


def trial(name, number):
    source = random.Random(f"{name} {number}")
    generator = torch.Generator().manual_seed(number % 2**32)
    dtype = source.choice(REAL)
    values, buffers = right_call(source, name, dtype, generator)
    wrong = bool(source.randrange(2))
    if wrong:
        mistake(values, source)
    table = native.KERNELS[name].arguments
    copies = None
    try:
        copies = {key: exact(x) for key, x in values.items()}
    except (RuntimeError, NotImplementedError):
        assert wrong  # no copy of a tensor without memory
    before = {key: [b.clone() for b in found] for key, found in buffers.items()}
    like = torch.empty(0, dtype=dtype)
    try:
        call(name, like, *values.values())
    except (ValueError, TypeError, MemoryError) as error:
        assert wrong, f"a right call was refused: {error}"
        assert str(error).startswith(f"kernel {name}: ") and "\n" not in str(error), error
        counts["refused"] += 1
        return
    assert copies is not None, "memory that is not there was used"
    call(name, torch.empty(0, dtype=torch.float64), *copies.values())
    for key, kind in table.items():
        for a, b in zip(parts(values[key]), parts(copies[key]), strict=True):
            if a.is_floating_point():
                same(a, b, dtype)
        for i, view in enumerate(parts(values[key]) if key in buffers else ()):
            whole, old = buffers[key][i], before[key][i]
            if view.untyped_storage().data_ptr() != whole.untyped_storage().data_ptr():
                continue  # it was replaced
            mask = torch.zeros_like(whole, dtype=torch.bool)
            if kind.written:
                mask.as_strided(view.shape, view.stride(), view.storage_offset()).fill_(True)
            assert torch.equal(whole[~mask], old[~mask]), f"{key}: written beside its place"
    counts["equal"] += 1


def main(trials, first):
    faulthandler.enable()
    torch.set_num_threads(2)
    limits = settings(
        max_examples=trials,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    for name in native.KERNELS:
        # Numbers alone come from hypothesis: drawing every size by it would take minutes.
        run = given(st.just(name), st.integers(0, 2**63))(trial)
        seed(first)(limits(run))()
    print(f"{sum(counts.values())} calls of {len(native.KERNELS)} kernels: ", end="")
    print(f"{counts['equal']} equal, {counts['refused']} refused")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
