"""Read weights of other versions of the library, and of programs built around a network.

The key map, applied in this order:

====================================================  ============================================
in the file                                           in the network
====================================================  ============================================
``state_dict``, ``model``, ``model_state_dict`` or    the mapping inside is read (Lightning,
``net`` holding a mapping                             training scripts, the papers' repository)
any ``_orig_mod.``                                    removed (``torch.compile`` around a module)
whatever stands before ``linear_in.``                 removed (``net.``, ``module.`` …)
``*.metric``                                          left out (a buffer of 1.x slim networks)
``blocks.N.norm*`` absent                             gains of one, if the network has gains (1.x)
slim ``mlp.layers.N.linear.weight_v``, 1.x            second third of the rows doubled: 1.x gated
                                                      by the whole inner product, 2.x by half of it
====================================================  ============================================

Weights of 1.x have biases in queries, keys and values; the network must have been built for them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lgatr.layers import CrossAttention, ScalarGatedNonlinearity, SlimGLU
from lgatr.utils.archive import check_archive
from lgatr.utils.inputs import check_real
from lgatr.utils.nonlinearities import get_nonlinearity
from lgatr.utils.pretrained import read_safetensors

N = TypeVar("N", bound=nn.Module)

CONTAINERS = ("state_dict", "model", "model_state_dict", "net")
_INPUT = "linear_in."
_QKV = ("qkv_module.", "q_linear.", "kv_linear.", "attention.linear_in")


def load_checkpoint(net: N, source: str | Path | Mapping[str, Any], prefix: str | None = None) -> N:
    """Load the weights of lgatr 1.x, 2.x or the papers' repository into a network.

    Networks for weights of 1.x are built with ``norm_elementwise_affine=False`` (or True: gains
    start at one), ``attention={"qkv_bias": True, ...}``, ``crossattention={"qkv_bias": True,
    "head_norm": False, ...}`` and ``mlp={"nonlinearity": "gelu_lgatr1", ...}``; slim ones with
    ``qkv_bias=True, nonlinearity="gelu_exact", nonlinearity_v=None``.

    Parameters
    ----------
    net
        One of the four networks, or what ``torch.compile`` made of it. Changed in place.
    source
        A file of :func:`torch.save` (read without unpickling code) or of safetensors, or a
        mapping.
    prefix
        What stands before ``linear_in.`` in the names; needed where a file holds several networks.

    Returns
    -------
    ``net``.

    Raises
    ------
    TypeError
        If these are no network and no checkpoint.
    ValueError
        If the file cannot be read, holds no such network, or needs a network built differently;
        the message says how.
    """
    target = _network(net)
    if not (prefix is None or isinstance(prefix, str)):
        raise TypeError(f"prefix is what stands before {_INPUT} in the names, not {prefix!r}")
    state = _network_state(_state_dict(source), prefix)
    for name, tensor in state.items():
        if not name.endswith(".metric"):
            _check_loadable(name, tensor)
    if _is_lgatr1(state):
        _check_lgatr1(target)
        state = _from_lgatr1(target, state)
    own = target.state_dict()
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    wrong = [
        f"{name} is {tuple(state[name].shape)}, not {tuple(own[name].shape)}"
        for name in own.keys() & state.keys()
        if state[name].shape != own[name].shape
    ]
    if missing or unexpected or wrong:
        problems = (("missing", missing), ("unknown", unexpected), ("of another size", wrong))
        raise ValueError(
            "the weights are of another network: "
            + "; ".join(f"{what}: {_some(names)}" for what, names in problems if names)
        )
    target.load_state_dict(state, strict=True)
    return net


def _network(net: Any) -> nn.Module:
    """The network itself, without what ``torch.compile`` or parallel training put around it."""
    target = net
    for wrapper in ("_orig_mod", "module"):
        while isinstance(inner := getattr(target, wrapper, None), nn.Module):
            target = inner
    if not isinstance(target, nn.Module):
        raise TypeError(f"load_checkpoint takes the network first, not {type(net).__name__}")
    if any(tensor.is_meta for tensor in target.state_dict().values()):
        raise ValueError('the network is on meta, without memory; net.to_empty(device="cpu") first')
    return target


def _check_loadable(name: str, tensor: Tensor) -> None:
    """Raise ``ValueError`` unless a tensor can be the weight of a network."""
    if tensor.is_meta:
        raise ValueError(f"{name} is on meta, without numbers; read the checkpoint onto a device")
    check_real(name, tensor, "of weights")


def _some(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _state_dict(source: str | Path | Mapping[str, Any]) -> dict[str, Tensor]:
    if isinstance(source, Mapping):
        content: Any = source
    elif not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"a checkpoint is a file or a mapping, not {type(source).__name__}")
    elif not Path(source).is_file():
        raise FileNotFoundError(f"{source}: no such file")
    elif Path(source).suffix == ".safetensors":
        content = read_safetensors(source)[0]
    else:
        check_archive(source)
        try:
            content = torch.load(source, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises a dozen kinds, from zip, pickle and itself
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(f"{source}: not a readable checkpoint ({first})") from error
    seen: set[int] = set()
    while isinstance(content, Mapping):
        if id(content) in seen:
            raise ValueError("the checkpoint holds itself, and no weights by name")
        seen.add(id(content))
        inner = [content[k] for k in CONTAINERS if isinstance(content.get(k), Mapping)]
        if not inner:
            break
        content = inner[0]
    if not isinstance(content, Mapping):
        raise ValueError("the checkpoint holds no weights by name")
    state: dict[str, Tensor] = {}
    for name, tensor in content.items():
        if isinstance(tensor, Tensor):
            plain = str(name).replace("_orig_mod.", "")
            if plain in state:
                raise ValueError(f"the checkpoint holds {plain} twice, with and without _orig_mod.")
            state[plain] = tensor
    return state


def _network_state(state: dict[str, Tensor], prefix: str | None) -> dict[str, Tensor]:
    found = {name[: name.index(_INPUT)] for name in state if _INPUT in name}
    # Attention layers of slim networks have a linear_in of their own.
    candidates = sorted(p for p in found if not any(p != q and p.startswith(q) for q in found))
    if prefix is None:
        if len(candidates) != 1:
            held = f"several: {', '.join(map(repr, candidates))}" if candidates else "none"
            raise ValueError(f"looked for one network in the checkpoint, found {held}; give prefix")
        prefix = candidates[0]
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in state.items()
        if name.startswith(prefix)
        and name.removeprefix(prefix).startswith((_INPUT, "blocks.", "linear_out."))
    }


def _is_lgatr1(state: Mapping[str, Tensor]) -> bool:
    return any(
        name.endswith(".metric") or (name.endswith("bias") and any(part in name for part in _QKV))
        for name in state
    )


def _check_lgatr1(net: nn.Module) -> None:
    tanh = get_nonlinearity("gelu")
    for module in net.modules():
        if isinstance(module, CrossAttention) and module.norm is not None:
            raise ValueError('weights of lgatr 1.x need crossattention={"head_norm": False}')
        if isinstance(module, ScalarGatedNonlinearity) and module.stage.scalar_function is tanh:
            raise ValueError('weights of lgatr 1.x need mlp={"nonlinearity": "gelu_lgatr1"}')
        if isinstance(module, SlimGLU) and (
            module.stage.function is tanh or module.stage.function_v is not module.stage.function
        ):
            raise ValueError(
                'weights of lgatr 1.x need nonlinearity_v=None, and "gelu_exact" for "gelu"'
            )
    if not any(
        name.endswith("bias") and any(part in name for part in _QKV) for name in net.state_dict()
    ):
        raise ValueError(
            'weights of lgatr 1.x need "qkv_bias": True, in attention and crossattention, or as an '
            "argument of slim networks"
        )


def _from_lgatr1(net: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    result = {name: tensor for name, tensor in state.items() if not name.endswith(".metric")}
    for name, module in net.named_modules():
        weight = f"{name}.linear.weight_v"
        if isinstance(module, SlimGLU) and weight in result:
            value, left, right = result[weight].chunk(3)
            result[weight] = torch.cat([value, 2 * left, right])
    for name, tensor in net.state_dict().items():
        if ".norm" in name and name not in result:
            result[name] = torch.ones_like(tensor)
    return result
