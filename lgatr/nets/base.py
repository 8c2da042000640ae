"""What all networks share: their forward pass, and how they are built, saved and built again.

Legend: T tokens, C multivector or vector channels, S scalar channels.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lgatr.attention import Attention, prepare_attention
from lgatr.attention.cache import undone_on_error
from lgatr.layers.base import has_hooks
from lgatr.utils.arguments import check_counts, check_flags, check_probability, plain_arguments
from lgatr.utils.autocast import is_naive, naive_amp
from lgatr.utils.compile import compile_model, compiled
from lgatr.utils.described import described
from lgatr.utils.devices import checked_device
from lgatr.utils.inputs import check_real, check_tokens
from lgatr.utils.pretrained import read_pretrained, write_pretrained

N = TypeVar("N", bound="Network")
F = TypeVar("F", bound=Callable[..., Any])
_FLAGS = ("norm_elementwise_affine", "checkpoint_blocks", "naive_amp", "compile", "qkv_bias")
Tokens = tuple[Any, Any]
"""Multivectors ``(..., T, C, 16)`` or vectors ``(..., T, C, 4)``, and scalars ``(..., T, S)``."""


def network_constructor(init: F) -> F:
    """Decorate ``__init__`` of a :class:`Network`.

    Its arguments are checked before anything is built, and remembered, so that the network can be
    saved and built again; with ``compile=True`` it is compiled at the end.
    """
    signature = inspect.signature(init)

    @functools.wraps(init)
    def wrapped(self: Network, *args: Any, **kwargs: Any) -> None:
        try:
            bound = signature.bind(self, *args, **kwargs)
        except TypeError:
            init(self, *args, **kwargs)  # Python says which argument is missing or unknown
            raise
        bound.apply_defaults()
        arguments = bound.arguments
        _check_arguments(arguments, self.input_channels)
        init(self, *args, **kwargs)
        # Options that were left out may come from the global switches of lgatr 1.x.
        resolved = {name: getattr(self, name) for name in arguments if name == "primitives"}
        self.arguments = plain_arguments({**arguments, **resolved})
        if arguments["compile"]:
            compile_model(
                self,
                compile_kwargs=arguments["compile_kwargs"],
                activation_memory_budget=arguments["activation_memory_budget"],
            )

    return wrapped  # type: ignore[return-value]


def _check_arguments(arguments: Mapping[str, Any], input_channels: Sequence[str]) -> None:
    """Raise ``TypeError`` or ``ValueError`` for arguments that no network can be built with."""
    for name, value in arguments.items():
        if name == "num_blocks" or "_channels" in name and "reinsert" not in name:
            # Norms divide by the number of hidden channels of vectors.
            least = 1 if name in ("hidden_mv_channels", "hidden_v_channels") else 0
            check_counts(least, **{name: value})
    check_probability("dropout_prob", arguments["dropout_prob"])
    check_flags(**{name: arguments[name] for name in _FLAGS if name in arguments})
    if not arguments["compile"]:
        for name in ("compile_kwargs", "activation_memory_budget"):
            if arguments[name] is not None:
                raise ValueError(f"{name} takes effect with compile=True only; leave it out")
    inputs = [name for name in input_channels if not name.endswith("_cond")]
    if not any(arguments[name] for name in inputs):
        raise ValueError(f"a network without input; give channels of {' or '.join(inputs)}")


class Network(nn.Module):
    """A stack of blocks between two linear layers.

    Encoders take tokens; decoders take tokens and a condition, which are tokens as well. Subclasses
    say what they take and build ``linear_in``, ``blocks`` and ``linear_out``, which work on hidden
    states; :meth:`transform` is the forward pass of them all.
    """

    representations: ClassVar[tuple[tuple[str, ...], tuple[str, ...]]]
    """What inputs and outputs transform as; see :mod:`lgatr.testing`."""

    input_channels: ClassVar[tuple[str, ...]]
    """The constructor's arguments with the channels of each input."""

    linear_in: nn.Module
    blocks: nn.ModuleList
    linear_out: nn.Module

    def __init__(self, checkpoint_blocks: bool, naive_amp: bool) -> None:
        super().__init__()
        self.checkpoint_blocks, self.naive_amp = checkpoint_blocks, naive_amp
        self.arguments: dict[str, Any] = {}
        self.last_attention: Attention | None = None
        self._compiled: Callable[..., Any] | None = None

    @staticmethod
    def to_hidden(x: Any, scalars: Any, /) -> Any:
        """A hidden state from tokens."""
        raise NotImplementedError

    @staticmethod
    def from_hidden(hidden: Any, /) -> tuple[Tensor, Tensor | None]:
        """Tokens from a hidden state."""
        raise NotImplementedError

    def transform(
        self, inputs: Sequence[Tokens], attn_kwargs: Sequence[Mapping[str, Any] | None]
    ) -> tuple[Tensor, Tensor | None]:
        """The forward pass: check, flatten packed events, to hidden states, blocks, and back.

        Everything in it follows the network's ``naive_amp``, and if it raises, caches that it was
        given are as they were before.

        Parameters
        ----------
        inputs
            Tokens; for decoders the condition as well.
        attn_kwargs
            Arguments of :func:`lgatr.attention.prepare_attention` for attention between the tokens,
            and for decoders from the tokens to the condition.
        """
        caches = [given.get("cache") for given in attn_kwargs if isinstance(given, Mapping)]
        caches = [cache for cache in caches if cache is not None]
        if not caches and not self.naive_amp:
            return self._transform(inputs, attn_kwargs)
        with undone_on_error(caches), naive_amp(self.naive_amp):
            return self._transform(inputs, attn_kwargs)

    def _transform(
        self, inputs: Sequence[Tokens], attn_kwargs: Sequence[Mapping[str, Any] | None]
    ) -> tuple[Tensor, Tensor | None]:
        self.check_inputs(inputs)
        tokens = inputs[0][0]
        leading, device, dtype = tokens.shape[:-2], tokens.device, tokens.dtype
        for given in attn_kwargs:
            if given is not None and not isinstance(given, Mapping):
                raise TypeError(
                    "keywords of attention are a dict, such as {'packing': packing}, not "
                    f"{described(given)}"
                )
        attends = [prepare_attention(device, dtype, **(given or {})) for given in attn_kwargs]
        packed = attends[0].spec.packing is not None
        if any((attend.spec.packing is not None) != packed for attend in attends):
            raise ValueError("self-attention and cross-attention must both be packed, or neither")
        if not torch.compiler.is_compiling():
            self.last_attention = attends[0]  # for reports; a traced program must not change it
        if packed:
            inputs = [(flatten_events(x, 2), flatten_events(s, 1)) for x, s in inputs]
        queries = inputs[0][0].shape[-3]
        for attend, (x, _) in zip(attends, inputs, strict=True):
            attend.check_tokens(queries, x.shape[-3])
        hidden, *condition = (self.to_hidden(x, s) for x, s in inputs)
        context = *condition, *attends, *self.further_inputs(hidden)
        hidden = self.linear_in(hidden)
        for block in self.blocks:
            hidden = self._run_block(block, hidden, *context)
        x, s = self.from_hidden(self.linear_out(hidden))
        if packed and len(leading) > 1:
            x, s = x.unflatten(0, leading), None if s is None else s.unflatten(0, leading)
        return x, s

    def check_inputs(self, inputs: Sequence[Tokens]) -> None:
        """Raise ``TypeError`` or ``ValueError`` unless these are inputs of this network."""
        like, kind = next(self.linear_in.parameters()), self.representations[0][0]
        channels = [self.arguments[name] for name in self.input_channels]
        for place, (x, s) in enumerate(inputs):
            check_tokens(
                x,
                s,
                (channels[place], channels[place + len(inputs)]),
                like,
                kind="vectors" if kind == "vector" else "multivectors",
                items=True,
                suffix="_cond" if place else "",
            )

    def further_inputs(self, hidden: Any) -> tuple[Any, ...]:
        """What blocks take besides hidden states and attention, from the network's input."""
        return ()

    @property
    def compiles_blocks(self) -> bool:
        """Whether blocks are compiled."""
        return self._compiled is not None

    def compile_blocks(
        self,
        compile_kwargs: Mapping[str, Any] | None = None,
        activation_memory_budget: float | None = None,
    ) -> None:
        """Compile the block, once for all its copies, by :func:`lgatr.utils.compile.compiled`.

        Blocks with hooks on them or inside run as they are.
        """
        self._compiled = compiled(_call, compile_kwargs, activation_memory_budget)

    def _run_block(self, block: nn.Module, *inputs: Any) -> Any:
        """One block on hidden states, compiled and checkpointed as configured."""
        call: Callable[..., Any] = _call
        if self._compiled is not None and not any(has_hooks(inner) for inner in block.modules()):
            call = self._compiled  # shared by all blocks, so that hooks in one could not be seen
        if self.checkpoint_blocks and torch.is_grad_enabled():
            # The state travels with the call: backward repeats it outside the user's block.
            return checkpoint(call, block, is_naive(), *inputs, use_reentrant=False)
        return block(*inputs) if call is _call else call(block, is_naive(), *inputs)

    def random_inputs(self, *leading: int) -> tuple[Tensor | None, ...]:
        """Normally distributed inputs, for trying and measuring.

        Parameters
        ----------
        *leading
            ``T`` for a packed batch, ``events, items`` for a dense one.

        Returns
        -------
        One tensor for each positional input, None where it has no channels.
        """
        like = next(self.parameters())
        numbers = {"multivector": (16,), "vector": (4,), "scalar": ()}
        shapes = [
            (*leading, self.arguments[channels], *numbers[kind])
            for channels, kind in zip(self.input_channels, self.representations[0], strict=True)
        ]
        return tuple(
            torch.randn(shape, dtype=like.dtype, device=like.device) if 0 not in shape else None
            for shape in shapes
        )

    def save_pretrained(self, directory: str | Path) -> Path:
        """Write ``model.safetensors``: the weights, with the constructor's arguments inside.

        Parameters
        ----------
        directory
            Is made if it does not exist. A file of that name in it is replaced at the end.

        Returns
        -------
        The file.
        """
        return write_pretrained(directory, type(self).__name__, self.arguments, self.state_dict())

    @classmethod
    def from_pretrained(
        cls: type[N], source: str | Path, device: torch.device | str = "cpu", **overrides: Any
    ) -> N:
        """Build a network from what :meth:`save_pretrained` wrote.

        ``Network.from_pretrained`` builds any kind of network, a subclass only its own.

        Parameters
        ----------
        source
            The directory, or the file itself.
        device
            Where to put the network.
        **overrides
            Constructor arguments that do not change the weights, such as ``compile=True``.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file holds another kind of network, is damaged, or was not written by this
            library, or there is no such device.
        """
        device = checked_device(device)
        path, name, arguments, state = read_pretrained(source)
        kinds = {kind.__name__: kind for kind in (cls, *_subclasses(cls))}
        if name not in kinds:
            raise ValueError(f"{source}: holds a {name}; use {name}.from_pretrained")
        try:
            net = kinds[name](**{**arguments, **overrides})
        except (TypeError, ValueError) as error:
            if overrides:
                raise
            raise ValueError(f"{path}: no {name} has such arguments ({error})") from error
        own = {key: tensor.shape for key, tensor in net.state_dict().items()}
        if own != {key: tensor.shape for key, tensor in state.items()}:
            changed = f"with {', '.join(overrides)} as given here" if overrides else "in the file"
            raise ValueError(f"{path}: its weights do not fit a {name} of the arguments {changed}")
        for key, tensor in state.items():
            check_real(key, tensor, "of weights")
        dtype = next((tensor.dtype for tensor in state.values()), torch.float32)
        net = net.to(dtype=dtype)
        net.load_state_dict(state, strict=True)
        net = net.to(device=device)
        return net.eval()

    def __getstate__(self) -> dict[str, Any]:
        # Compiled code belongs to this process.
        return {**super().__getstate__(), "_compiled": None, "last_attention": None}  # type: ignore[misc]


def _subclasses(kind: type[N]) -> list[type[N]]:
    return [k for child in kind.__subclasses__() for k in (child, *_subclasses(child))]


def _call(block: nn.Module, naive: bool, *inputs: Any) -> Any:
    if naive == is_naive():
        return block(*inputs)
    with naive_amp(naive):
        return block(*inputs)


def flatten_events(x: Tensor | None, features: int) -> Tensor | None:
    """Join the leading dimensions of a packed batch, ``(1, T, ...)`` to ``(T, ...)``.

    Parameters
    ----------
    x
        Tokens, or None.
    features
        How many trailing dimensions belong to a token.
    """
    if x is None:
        return x
    leading = x.shape[: x.dim() - features]
    if len(leading) == 1:
        return x
    if leading.numel() != leading[-1]:
        raise ValueError(
            f"a packed batch is one sequence; leading shape {tuple(leading)} has several"
        )
    return x.flatten(0, len(leading) - 1)
