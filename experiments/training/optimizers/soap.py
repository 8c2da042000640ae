"""SOAP with parameters of equal shape in one stack, for GPUs, where each launch costs time.

Legend: N parameters of equal shape, D size of a dimension.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

import pytorch_optimizer
import torch
from torch import Tensor

from experiments.options.markers import KeywordsOf
from experiments.training.optimizers.matrices import add_products, along, orthogonal

_KEYWORDS = KeywordsOf("pytorch_optimizer.SOAP", supplied=("params",))


class _Stack:
    """The state of parameters of equal shape, side by side.

    The state of each parameter is a part of these tensors, in the library's form, so that
    checkpoints are the library's.

    Parameters
    ----------
    parameters
        Of equal shape, type and device.
    states
        Their states.
    """

    def __init__(self, parameters: list[Tensor], states: list[dict[str, Any]]) -> None:
        self.parameters = parameters
        first = states[0]
        self.beta, self.frequency = first["shampoo_beta"], first["precondition_frequency"]
        self.exp_avg = torch.stack([s["exp_avg"] for s in states])
        self.exp_avg_sq = torch.stack([s["exp_avg_sq"] for s in states])
        self.dims = [k for k, matrix in enumerate(first["GG"]) if len(matrix) > 0]
        self.products = {k: torch.stack([s["GG"][k] for s in states]) for k in self.dims}
        self.bases = {k: torch.stack([s["Q"][k] for s in states]) for k in self.dims}
        for i, state in enumerate(states):
            state["exp_avg"], state["exp_avg_sq"] = self.exp_avg[i], self.exp_avg_sq[i]
            for k in self.dims:
                state["GG"][k], state["Q"][k] = self.products[k][i], self.bases[k][i]
        self._parts = [state["exp_avg"] for state in states]

    def holds(self, states: Mapping[Tensor, Any]) -> bool:
        """Whether states are still parts of this stack; not after a checkpoint is loaded."""
        pairs = zip(self.parameters, self._parts, strict=True)
        return all(states[p]["exp_avg"] is part for p, part in pairs)

    def gradients(self) -> Tensor:
        """Gradients ``(N, ...)``."""
        return torch.stack([p.grad for p in self.parameters if p.grad is not None])

    def projected(self, stack: Tensor) -> Tensor:
        """Into the eigenbases."""
        for k in self.dims:
            stack = along(stack, self.bases[k], k)
        return stack

    def projected_back(self, stack: Tensor) -> Tensor:
        """Out of the eigenbases."""
        for k in self.dims:
            stack = along(stack, self.bases[k].mT, k)
        return stack

    def update_products(self, gradients: Tensor) -> None:
        """Move the matrices that bases are of towards those of the gradients."""
        for k in self.dims:
            add_products(self.products[k], gradients, k, 1.0 - self.beta)

    def power_iteration(self, k: int) -> Tensor:
        """Products of matrices and bases of a dimension, sorted by eigenvalue: ``(N, D, D)``."""
        product = self.products[k] @ self.bases[k]
        values = (self.bases[k] * product).sum(dim=1)
        order = torch.argsort(values, dim=1, descending=True)
        shape = [1] * self.exp_avg_sq.dim()
        shape[0], shape[k + 1] = order.shape
        self.exp_avg_sq.copy_(self.exp_avg_sq.take_along_dim(order.view(shape), k + 1))
        return product.take_along_dim(order.unsqueeze(1), 2)


class SOAP(pytorch_optimizer.SOAP):
    """Adam in the eigenbasis of Shampoo's curvature (arXiv:2409.11321), by stacks of parameters.

    The update of the library's class, whose checkpoints it reads and writes. That one launches some
    20 operations for each parameter. Here, products of matrices are launched once for all
    parameters of a shape, the rest once for all, and new bases once for all matrices of a size.

    Parameters
    ----------
    params
        Parameters, or groups of them.
    stacked
        Whether to use stacks; None uses them on GPUs. Results differ in rounding, and so in
        directions that gradients have not had yet, where a basis is made of rounding errors.
    options
        Options of the library's class.

    Raises
    ------
    ValueError
        If stacks are asked for with ``merge_dims`` or ``data_format``, which they do not have.
    """

    def __init__(
        self, params: Any, stacked: bool | None = None, **options: Annotated[Any, _KEYWORDS]
    ) -> None:
        super().__init__(params, **options)
        simple = self.data_format == "channels_first" and not self.maximize
        self._can_stack = simple and not any(g["merge_dims"] for g in self.param_groups)
        if stacked and not self._can_stack:
            raise ValueError("stacked=true goes without merge_dims, data_format and maximize")
        self._stacked = stacked
        self._stacks: dict[int, list[_Stack]] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._stacks = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters."""
        used = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        wanted = self._stacked
        if wanted is None:
            wanted = self._can_stack and all(p.device.type == "cuda" for p in used)
        # The first step only makes the state.
        if not wanted or not used or not all(self.state.get(p) for p in used):
            self._stacks.clear()
            return super().step(closure)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for number, group in enumerate(self.param_groups):
            group["step"] += 1
            if stacks := self._stacks_of(number, group):
                _update(stacks, group, group["step"] - 1)
        return loss

    def _stacks_of(self, number: int, group: dict[str, Any]) -> list[_Stack]:
        """The stacks of a group's parameters that have gradients."""
        used = [p for p in group["params"] if p.grad is not None]
        stacks = self._stacks.get(number, [])
        held = [id(p) for stack in stacks for p in stack.parameters]
        if sorted(held) != sorted(map(id, used)) or not all(s.holds(self.state) for s in stacks):
            kinds: dict[Any, list[Tensor]] = {}
            for p in used:
                state = self.state[p]
                key = (p.shape, p.dtype, p.device, state["shampoo_beta"])
                kinds.setdefault((*key, state["precondition_frequency"]), []).append(p)
            stacks = [_Stack(ps, [self.state[p] for p in ps]) for ps in kinds.values()]
            self._stacks[number] = stacks
        return stacks


def _update(stacks: list[_Stack], group: dict[str, Any], step: int) -> None:
    """One step of all parameters of a group, the ``step``-th after that which made the state."""
    beta1, beta2 = group["betas"]
    size = group["lr"]
    if group["correct_bias"]:
        size *= math.sqrt(1.0 - math.pow(beta2, step)) / (1.0 - math.pow(beta1, step))
    gradients = [stack.gradients() for stack in stacks]
    squares = [s.projected(g).square() for s, g in zip(stacks, gradients, strict=True)]
    torch._foreach_lerp_([s.exp_avg for s in stacks], gradients, 1.0 - beta1)
    torch._foreach_lerp_([s.exp_avg_sq for s in stacks], squares, 1.0 - beta2)
    scales = torch._foreach_sqrt([s.exp_avg_sq for s in stacks])
    torch._foreach_add_(scales, group["eps"])
    averages = torch._foreach_div([s.projected(s.exp_avg) for s in stacks], scales)
    updates = [s.projected_back(u) for s, u in zip(stacks, averages, strict=True)]
    if group["normalize_gradient"]:
        updates = [_normalized(u, group["eps"]) for u in updates]
    parameters = [p for stack in stacks for p in stack.parameters]
    torch._foreach_add_(parameters, [u for us in updates for u in us.unbind()], alpha=-size)
    if group["weight_decay"]:
        torch._foreach_mul_(parameters, 1.0 - group["weight_decay"] * group["lr"])
    for stack, gradient in zip(stacks, gradients, strict=True):
        stack.update_products(gradient)
    _renew_bases([stack for stack in stacks if step % stack.frequency == 0])


def _normalized(updates: Tensor, eps: float) -> Tensor:
    dims = tuple(range(1, updates.dim()))
    return updates / (updates.square().mean(dim=dims, keepdim=True).sqrt() + eps)


def _renew_bases(stacks: Iterable[_Stack]) -> None:
    """One round of power iteration for all bases, by one decomposition for each size."""
    sizes: dict[Any, list[tuple[Tensor, Tensor]]] = {}
    for stack in stacks:
        for k in stack.dims:
            found, bases = stack.power_iteration(k), stack.bases[k]
            sizes.setdefault((bases.shape[1], bases.device), []).append((bases, found))
    for pairs in sizes.values():
        # The library's format: the decomposition has no others than float32 and float64.
        matrices = torch.cat([found.to(torch.float32) for _, found in pairs])
        parts = orthogonal(matrices).split([len(bases) for bases, _ in pairs])
        for (bases, _), part in zip(pairs, parts, strict=True):
            bases.copy_(part)
