"""What all networks have in common: how blocks run, and how a network is saved and built again."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lgatr.attention import Attention
from lgatr.attention.cache import undone_on_error
from lgatr.utils.arguments import check_counts, check_flags, check_probability, plain_arguments
from lgatr.utils.autocast import is_naive, naive_amp
from lgatr.utils.compile import compile_model, compiled
from lgatr.utils.devices import checked_device
from lgatr.utils.inputs import check_real
from lgatr.utils.pretrained import read_pretrained, write_pretrained

N = TypeVar("N", bound="Network")
F = TypeVar("F", bound=Callable[..., Any])
_FLAGS = ("norm_elementwise_affine", "checkpoint_blocks", "naive_amp", "compile", "qkv_bias")


class Network(nn.Module):
    """A stack of blocks that can be compiled, checkpointed, saved, and built again.

    Subclasses set ``block_method``, the method of their blocks that works on hidden states;
    ``representations`` of their inputs and outputs; and ``input_channels``, the constructor's
    arguments with the channels of each input.
    """

    block_method: ClassVar[str]
    representations: ClassVar[tuple[tuple[str, ...], tuple[str, ...]]]
    input_channels: ClassVar[tuple[str, ...]]

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        super().__init__()
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
        inputs = [name for name in self.input_channels if not name.endswith("_cond")]
        if not any(arguments[name] for name in inputs):
            raise ValueError(f"a network without input; give channels of {' or '.join(inputs)}")
        checkpoint_blocks, naive_amp = arguments["checkpoint_blocks"], arguments["naive_amp"]
        self.checkpoint_blocks, self.naive_amp = checkpoint_blocks, naive_amp
        self.arguments: dict[str, Any] = {}
        self.last_attention: Attention | None = None
        self._compiled: Callable[..., Any] | None = None

    def _finish(
        self,
        arguments: Mapping[str, Any],
        compile: bool,
        compile_kwargs: Mapping[str, Any] | None,
        activation_memory_budget: float | None,
    ) -> None:
        """Called last by every constructor: remember its arguments, compile if asked to."""
        self.arguments = plain_arguments(arguments)
        if compile:
            compile_model(
                self,
                compile_kwargs=compile_kwargs,
                activation_memory_budget=activation_memory_budget,
            )

    @property
    def compiles_blocks(self) -> bool:
        """Whether blocks are compiled."""
        return self._compiled is not None

    def compile_blocks(
        self,
        compile_kwargs: Mapping[str, Any] | None = None,
        activation_memory_budget: float | None = None,
    ) -> None:
        """Compile the block, once for all its copies; see :func:`lgatr.utils.compile.compiled`."""
        self._compiled = compiled(_call, compile_kwargs, activation_memory_budget)

    def _run_block(self, block: nn.Module, *inputs: Any) -> Any:
        """One block on hidden states, compiled and checkpointed as configured."""
        call = self._compiled or _call
        method, naive = self.block_method, is_naive()
        if self.checkpoint_blocks and torch.is_grad_enabled():
            # The state travels with the call: backward repeats it outside the user's block.
            return checkpoint(call, block, method, naive, *inputs, use_reentrant=False)
        return call(block, method, naive, *inputs)

    def _remember(self, attend: Attention) -> None:
        # Reports read it. A traced program must not change its module.
        if not torch.compiler.is_compiling():
            self.last_attention = attend

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


def _call(block: nn.Module, method: str, naive: bool, *inputs: Any) -> Any:
    if naive == is_naive():
        return getattr(block, method)(*inputs)
    with naive_amp(naive):
        return getattr(block, method)(*inputs)


def _caches(*arguments: Any) -> list[Any]:
    """What is given as ``cache`` in these keyword arguments of attention."""
    found = [given.get("cache") for given in arguments if isinstance(given, Mapping)]
    return [cache for cache in found if cache is not None]


def own_precision(forward: F) -> F:
    """Decorate ``forward`` of a network.

    Everything in it follows the network's ``naive_amp``, and if it raises, caches that it was given
    are as they were before.
    """

    @functools.wraps(forward)
    def wrapped(self: Network, *args: Any, **kwargs: Any) -> Any:
        caches = _caches(kwargs, *args, *kwargs.values())
        if caches:
            with undone_on_error(caches):
                return in_format(self, *args, **kwargs)
        return in_format(self, *args, **kwargs)

    def in_format(self: Network, *args: Any, **kwargs: Any) -> Any:
        if not self.naive_amp:
            return forward(self, *args, **kwargs)
        with naive_amp():
            return forward(self, *args, **kwargs)

    return wrapped  # type: ignore[return-value]


def flatten_events(x: Tensor | None, features: int, packed: bool) -> Tensor | None:
    """Join the leading dimensions of a packed batch, ``(1, T, ...)`` to ``(T, ...)``.

    Parameters
    ----------
    x
        Tokens, or None.
    features
        How many trailing dimensions belong to a token.
    packed
        If False, ``x`` is returned.
    """
    if x is None or not packed:
        return x
    leading = x.shape[: x.dim() - features]
    if len(leading) == 1:
        return x
    if leading.numel() != leading[-1]:
        raise ValueError(
            f"a packed batch is one sequence; leading shape {tuple(leading)} has several"
        )
    return x.flatten(0, len(leading) - 1)
