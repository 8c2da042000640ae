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
    in one operation with others. If one has a hook, :meth:`forward_unfused` runs instead."""

    forward_hidden: Callable[..., Any]
    """The layer on hidden states. Defined by every layer."""

    forward_unfused: Callable[..., Any]
    """The same, up to rounding, calling each inner layer. Defined by layers with ``fused`` ones."""

    def run(self, *inputs: Any) -> Any:
        """The layer on hidden states, with inner layers fused unless somebody looks at them."""
        if self.fused and not is_compiling() and self._fused_layers_have_hooks():
            return self.forward_unfused(*inputs)
        return self.forward_hidden(*inputs)

    def _fused_layers_have_hooks(self) -> bool:
        for name in self.fused:
            layer = self._modules.get(name)
            if layer is not None and has_hooks(layer):
                return True
            if isinstance(layer, nn.ModuleList) and any(map(has_hooks, layer)):
                return True
        return False


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
