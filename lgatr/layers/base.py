"""What all layers share: they take hidden states from each other, and public tensors from users."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from torch import Tensor, nn
from torch.compiler import is_compiling
from torch.nn.modules import module as torch_module

from lgatr.layout import Sectors, SlimState

F = TypeVar("F", bound=Callable[..., Any])

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Prepared attention: maps queries, keys and values ``(..., T, H, D)``, as
:class:`lgatr.attention.Attention` does."""

_OWN = frozenset({"forward", "forward_hidden", "forward_unfused", "run"})
"""Methods that an instance has itself only if somebody replaced them."""

_STAGE = "stage"
"""Attribute of layers that are one operation: a fused one is made of it in the constructor."""

HIDDEN_STATES = (Sectors, SlimState)
"""Types of hidden states: of layers on multivectors, and of slim ones."""

H = TypeVar("H", Sectors, SlimState)


def added(x: H, y: H) -> H:
    """The sum of two hidden states.

    Where a norm follows, blocks take both from :class:`~lgatr.ops._runtime.stage.OfSum` instead.
    """
    return type(x)(*[a + b for a, b in zip(x, y, strict=True)])


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
    in one operation with others. If one has a hook, or is not as it was at the end of the
    constructor (:meth:`_seal_fused`), :meth:`forward_unfused` runs instead."""

    forward_hidden: Callable[..., Any]
    """The layer on hidden states. Defined by every layer."""

    forward_unfused: Callable[..., Any]
    """The same, up to rounding, calling each inner layer. Defined by layers with ``fused`` ones."""

    _seal: tuple[object, dict[str, int], object] | None = None
    _sealed_as: tuple[object, str, int, type, object] | None = None
    _is_changed = False
    _is_altered = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "forward_hidden" in vars(cls) and "forward_unfused" not in vars(cls):
            cls.fused = ()  # a computation of its own, which decides what it calls

    def _seal_fused(self) -> None:
        """Remember the fused layers, at the end of a constructor; others are called from then on.

        They carry the seal themselves, so that copies of the layer stay sealed, and layers that
        were replaced are not kept.
        """
        token, counts = object(), {}
        for name in self.fused:
            found = _with_items(self._modules.get(name))
            counts[name] = len(found)
            for index, layer in enumerate(found):
                stage = vars(layer).get(_STAGE)
                layer.__dict__["_sealed_as"] = (token, name, index, type(layer), stage)
        self._seal = token, counts, vars(self).get(_STAGE)

    def _is_as_built(self) -> bool:
        """Whether the fused layers, and the layer's own stage, are those of the constructor."""
        if self._seal is None:
            return False
        token, counts, stage = self._seal
        if vars(self).get(_STAGE) is not stage:
            return False
        for name, count in counts.items():
            found = _with_items(self._modules.get(name))
            if len(found) != count:
                return False
            for index, layer in enumerate(found):
                own = layer.__dict__
                sealed = own.get("_sealed_as")
                if sealed is None or sealed[0] is not token:
                    return False
                # Somebody may also have given it another class or another computation.
                if sealed[1:4] != (name, index, type(layer)) or not _OWN.isdisjoint(own):
                    return False
                if own.get(_STAGE) is not sealed[4]:
                    return False
        return True

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        self._note_change(name)

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self._note_change(name)

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """That of :class:`torch.nn.Module`."""
        super().add_module(name, module)
        self._note_change(name)

    def _note_change(self, name: str) -> None:
        # For compiled programs, which should not compare objects.
        if self._seal is not None and (name in self.fused or name == _STAGE):
            self.__dict__["_is_changed"] = not self._is_as_built()
        if self._sealed_as is not None and (name == _STAGE or name in _OWN):
            own = vars(self)
            same = own.get(_STAGE) is self._sealed_as[4] and _OWN.isdisjoint(own)
            self.__dict__["_is_altered"] = not same

    def run(self, *inputs: Any) -> Any:
        """The layer on hidden states, with inner layers fused if that makes no difference."""
        if self.fused and (
            self._was_changed() if is_compiling() else self.must_call_inner_layers()
        ):
            return self.forward_unfused(*inputs)
        return self.forward_hidden(*inputs)

    def _was_changed(self) -> bool:
        """What a compiled program can see of :meth:`_is_as_built`."""
        return self._is_changed or any(
            getattr(layer, "_is_altered", False)
            for name in self.fused
            for layer in _with_items(self._modules.get(name))
        )

    def must_call_inner_layers(self) -> bool:
        """Whether somebody looks at inner layers that would be fused, or has changed them."""
        if not self._is_as_built():
            return True
        return any(
            has_hooks(layer)
            for name in self.fused
            for layer in _with_items(self._modules.get(name))
        )


def _with_items(layer: nn.Module | None) -> tuple[nn.Module, ...]:
    """A layer; a list of layers and those in it; nothing."""
    if layer is None:
        return ()
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


_GLOBAL_HOOKS = tuple(
    getattr(torch_module, name)
    for name in (
        "_global_forward_hooks",
        "_global_forward_pre_hooks",
        "_global_backward_hooks",
        "_global_backward_pre_hooks",
    )
)


def hold_parameters(*modules: nn.Module | None) -> bool:
    """Whether these are :class:`torch.nn.Linear` modules as they were made, or nothing.

    Layers read the parameters of such modules and never call them; of others see
    :func:`lgatr.layers.inner_linear.linear_map`.
    """
    for module in modules:
        if module is not None and (
            type(module).forward is not nn.Linear.forward
            or "forward" in module.__dict__
            or module._forward_hooks
            or module._forward_pre_hooks
            or module._backward_hooks
            or module._backward_pre_hooks
        ):
            return False
    return True


def has_hooks(module: nn.Module) -> bool:
    """Whether hooks are registered on this module, or on all modules."""
    return any(_GLOBAL_HOOKS) or bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )
