"""SOAP by stacks takes the steps of the library's class, and shares its checkpoints."""

from __future__ import annotations

import copy
import io

import pytest
import pytorch_optimizer
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from experiments.training.optimizers.matrices import add_products, along, orthogonal
from experiments.training.optimizers.soap import SOAP
from support.nothing_waits import NothingWaits
from support.slow import every
from support.taggers import batch, build


class Calls(TorchDispatchMode):
    """Counts operations that are launched."""

    VIEWS = (
        "view", "select", "unbind", "t", "transpose", "detach", "alias", "unsqueeze", "diagonal",
        "expand", "split_with_sizes", "_unsafe_view", "empty", "split",
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function.overloadpacket.__name__ not in self.VIEWS
        return function(*args, **(kwargs or {}))


def library(parameters, **options):
    return pytorch_optimizer.SOAP(parameters, lr=3e-3, **options)


def ours(parameters, **options):
    return SOAP(parameters, stacked=True, lr=3e-3, **options)


def push(model, optimizer, steps, first=0):
    """Steps by random gradients, which leave no direction out."""
    for seed in range(first, first + steps):
        generator = torch.Generator().manual_seed(seed)
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)
        optimizer.step()


def train(model, optimizer, steps, factor=1.0):
    """Losses of steps towards random targets."""
    losses = []
    for seed in range(steps):
        events = batch((30, 1, 17, 22), seed)
        logits = model(events)
        target = torch.randn(logits.shape, generator=torch.Generator().manual_seed(seed)).double()
        optimizer.zero_grad()
        loss = (logits - target).square().mean()
        (factor * loss).backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def difference(first, second):
    """Largest difference of any weight."""
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    return max(float((p - q).detach().abs().max()) for p, q in pairs if p.numel())


@pytest.mark.parametrize("name", every(3, ["lgatr_slim_small", "lgatr_small", "transformer_small"]))
@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param(
            {"normalize_gradient": True, "correct_bias": False, "precondition_frequency": 12},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["as configured", "all parts"],
)
def test_steps_are_those_of_the_library(name, options):
    """With new bases at steps 11 and 21."""
    models = [build(name) for _ in range(2)]
    before = copy.deepcopy(models[0])
    for model, make in zip(models, (library, ours), strict=True):
        push(model, make(model.parameters(), **options), 24)
    assert difference(*models) < 1e-6
    assert difference(models[0], before) > 1e-2


@pytest.mark.slow
def test_a_training_is_that_of_the_library():
    """Equal weights until bases are made anew, and equal losses behind that.

    In directions that gradients have not had yet, a new basis is made of rounding errors. What a
    step does there is arbitrary and changes no loss: the library differs more from itself.
    """
    models = [build("lgatr_small").train() for _ in range(3)]
    makes, factors = (library, ours, library), (1.0, 1.0, 1.0 + 1e-9)
    for steps, close in ((10, 1e-9), (26, None)):
        losses = []
        for model, make, factor in zip(models, makes, factors, strict=True):
            model.load_state_dict(build("lgatr_small").state_dict())
            losses.append(train(model, make(model.parameters()), steps, factor))
        torch.testing.assert_close(losses[1], losses[0], rtol=1e-3, atol=1e-3)
        limit = close or difference(models[0], models[2])
        assert difference(models[0], models[1]) < limit


@pytest.mark.slow
def test_checkpoints_are_those_of_the_library():
    """From either to either, in the middle of the steps between two bases."""
    models = [build("lgatr_slim_small") for _ in range(3)]
    push(models[0], library(models[0].parameters()), 24)
    for model, first, second in ((models[1], library, ours), (models[2], ours, library)):
        optimizer = first(model.parameters())
        push(model, optimizer, 13)
        stored = io.BytesIO()
        torch.save(optimizer.state_dict(), stored)
        stored.seek(0)
        resumed = second(model.parameters())
        resumed.load_state_dict(torch.load(stored, weights_only=True))
        push(model, resumed, 11, first=13)
        assert difference(models[0], model) < 1e-6


@pytest.mark.slow
def test_a_checkpoint_that_is_loaded_between_steps():
    models = [build("lgatr_small") for _ in range(2)]
    straight, back = (ours(model.parameters()) for model in models)
    push(models[0], straight, 12)
    push(models[1], back, 12)
    weights = {name: value.clone() for name, value in models[1].state_dict().items()}
    stored = copy.deepcopy(back.state_dict())
    push(models[1], back, 5, first=40)
    models[1].load_state_dict(weights)
    back.load_state_dict(stored)
    for model, optimizer in zip(models, (straight, back), strict=True):
        push(model, optimizer, 10, first=12)
    assert difference(*models) == 0.0


def parameters(shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in shapes
    ]


@pytest.mark.parametrize("vectors", [False, True])
def test_parameters_without_gradients_and_of_any_shape(vectors):
    """Some get gradients late, some sometimes, some never; one is a number, one is empty."""
    shapes = [(4, 3), (4, 3), (5,), (), (0, 4), (2, 3, 4, 2), (4, 3), (2, 3, 4, 2), (1, 1)]
    sides = [parameters(shapes) for _ in range(2)]
    for side, make in zip(sides, (library, ours), strict=True):
        groups = [{"params": side[:4]}, {"params": side[4:], "weight_decay": 0.0, "lr": 1e-2}]
        # So late that each dimension of a vector has had a gradient.
        optimizer = make(groups, precondition_frequency=7, precondition_1d=vectors)
        for step in range(18):
            generator = torch.Generator().manual_seed(step)
            for number, p in enumerate(side):
                p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)
                if number == 6 or (number == 1 and step < 5) or (number == 7 and step % 3 == 2):
                    p.grad = None
            optimizer.step()
    for number, (a, b) in enumerate(zip(*sides, strict=True)):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6, msg=f"parameter {number}")


def test_few_launches_that_nobody_waits_for():
    model = build("lgatr_small").train()
    counts = []
    for make in (library, ours):
        optimizer = make(model.parameters())
        push(model, optimizer, 2)
        with Calls() as calls:
            optimizer.step()
        counts.append(calls.count)
    assert counts[1] < counts[0] / 4
    with NothingWaits():
        for _ in range(10):  # one of them makes new bases
            optimizer.step()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_on_a_gpu():
    """Stacks by default, whose steps are the library's and are not waited for."""
    models = [build("lgatr_small").cuda() for _ in range(2)]
    optimizers = [kind(m.parameters(), lr=3e-3) for kind, m in
                  zip((pytorch_optimizer.SOAP, SOAP), models, strict=True)]  # fmt: skip
    for seed in range(24):
        for number, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
            generator = torch.Generator().manual_seed(seed)
            for p in model.parameters():
                p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype).cuda()
            watched = number == 1 and seed > 1  # the first step makes the state
            torch.cuda.set_sync_debug_mode("error" if watched else "default")
            try:
                optimizer.step()
            finally:
                torch.cuda.set_sync_debug_mode("default")
    assert optimizers[1]._stacks
    assert difference(*models) < 1e-6


def test_stacks_are_for_gpus():
    """The library's own steps, bit by bit, on a CPU."""
    sides = [parameters([(4, 3), (4, 3)]) for _ in range(2)]
    for side, kind in zip(sides, (pytorch_optimizer.SOAP, SOAP), strict=True):
        optimizer = kind(side, lr=1e-2)
        for step in range(12):
            for p in side:
                generator = torch.Generator().manual_seed(step)
                p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)
            optimizer.step()
    assert all(map(torch.equal, *sides))
    for options in ({"merge_dims": True}, {"data_format": "channels_last"}, {"maximize": True}):
        SOAP(sides[0], **options)
        with pytest.raises(ValueError, match="stacked=true goes without"):
            SOAP(sides[0], stacked=True, **options)


class TestMatrices:
    @pytest.mark.parametrize("dim", [0, 1, 2])
    def test_along(self, dim):
        stack = torch.randn(5, 2, 3, 4, dtype=torch.float64)
        size = stack.shape[dim + 1]
        matrices = torch.randn(5, size, size, dtype=torch.float64)
        found = along(stack, matrices, dim)
        for x, m, y in zip(stack, matrices, found, strict=True):
            torch.testing.assert_close(y, torch.tensordot(x, m, dims=([dim], [0])).movedim(-1, dim))

    @pytest.mark.parametrize("dim", [0, 1, 2])
    def test_products(self, dim):
        stack = torch.randn(5, 2, 3, 4, dtype=torch.float64)
        size = stack.shape[dim + 1]
        found = torch.randn(5, size, size, dtype=torch.float64)
        others = [k for k in range(3) if k != dim]
        outer = torch.stack([torch.tensordot(x, x, dims=(others, others)) for x in stack])
        expected = found.lerp(outer, 0.3)
        add_products(found, stack, dim, 0.3)
        torch.testing.assert_close(found, expected)

    @pytest.mark.parametrize("size", [1, 2, 7, 64])
    @pytest.mark.parametrize("rank", [0, 1, 3, 64])
    def test_orthogonal_factor(self, size, rank):
        """LAPACK's, where it is unique and where it is not."""
        rank = min(size, rank)
        matrices = torch.randn(6, size, rank).double() @ torch.randn(6, rank, size).double()
        matrices[0, :, 0] = 0.0
        torch.testing.assert_close(orthogonal(matrices), torch.linalg.qr(matrices)[0])
        q = orthogonal(matrices.float())
        torch.testing.assert_close(q.mT @ q, torch.eye(size).expand(6, -1, -1), rtol=0, atol=3e-5)
