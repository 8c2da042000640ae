"""What all layers share: they take hidden states from each other, and public tensors from users."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from torch import Tensor, nn
from torch.compiler import is_compiling

from lgatr.layout import Sectors, SlimState

F = TypeVar("F", bound=Callable[..., Any])

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Prepared attention: maps queries, keys and values ``(..., T, H, D)``, as
:class:`lgatr.attention.Attention` does."""

HIDDEN_STATES = (Sectors, SlimState)
"""Types of hidden states: of layers on multivectors, and of slim ones."""


class Layer(nn.Module):
    """A layer that is called with hidden states or with public tensors.

    Networks and layers call ``layer(x, ...)`` with hidden states ``x``
    (:class:`~lgatr.layout.Sectors` or :class:`~lgatr.layout.SlimState`), which were checked where
    they entered the network. Users call ``layer(multivectors, scalars)`` with public tensors:
    ``forward`` checks them, converts them, runs the layer and converts the result back.

    As every call is one of the module, hooks of :class:`torch.nn.Module` run in both cases, and get
    what the layer was called with: inside a network, hidden states.
    """

    representations: ClassVar[tuple[tuple[str, ...], tuple[str, ...]]]
    """What the public inputs and outputs transform as; see :mod:`lgatr.testing`."""

    fused: ClassVar[tuple[str, ...]] = ()
    """Inner layers (or lists of them) that :meth:`forward_hidden` does not call, since it runs them
    in one operation with others. If one has a hook, or is not the one that the layer was built
    with, :meth:`forward_unfused` runs instead."""

    forward_hidden: Callable[..., Any]
    """The layer on hidden states. Defined by every layer."""

    forward_unfused: Callable[..., Any]
    """The same, up to rounding, calling each inner layer. Defined by layers with ``fused`` ones."""

    def __init__(self) -> None:
        super().__init__()
        self._built: dict[str, tuple[nn.Module, ...]] = {}
        self._is_changed = False

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.fused and isinstance(value, nn.Module):
            found = _with_items(value)
            self._is_changed |= self._built.setdefault(name, found) != found
        super().__setattr__(name, value)

    def run(self, *inputs: Any) -> Any:
        """The layer on hidden states, with inner layers fused if that makes no difference."""
        if self.fused and (self._is_changed or not is_compiling() and self.calls_inner_layers()):
            return self.forward_unfused(*inputs)
        return self.forward_hidden(*inputs)

    def calls_inner_layers(self) -> bool:
        """Whether somebody looks at inner layers that would be fused, or has replaced one."""
        for name in self.fused:
            layer = self._modules.get(name)
            if layer is not None:
                found = _with_items(layer)
                if found != self._built[name] or any(map(has_hooks, found)):
                    return True
        return False


def _with_items(layer: nn.Module) -> tuple[nn.Module, ...]:
    """A layer; a list of layers and those in it."""
    return (layer, *layer) if isinstance(layer, nn.ModuleList) else (layer,)


def accepts_hidden(forward: F) -> F:
    """Decorate ``forward`` of a :class:`Layer`, written for public tensors, to take hidden states.

    With a hidden state first, the arguments are those of ``forward_hidden``.
    """

    @functools.wraps(forward)
    def wrapped(self: Layer, *inputs: Any, **kwargs: Any) -> Any:
        if inputs and isinstance(inputs[0], HIDDEN_STATES):
            return self.run(*inputs)
        return forward(self, *inputs, **kwargs)

    return wrapped  # type: ignore[return-value]


def has_hooks(module: nn.Module) -> bool:
    """Whether hooks are registered on this module."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )
