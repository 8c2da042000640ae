"""Small networks of all four kinds, and inputs for them."""

from __future__ import annotations

import torch

from lgatr import ConditionalLGATr, ConditionalLGATrSlim, LGATr, LGATrSlim

_MULTIVECTORS = {
    "num_blocks": 2,
    "in_mv_channels": 2,
    "out_mv_channels": 1,
    "hidden_mv_channels": 4,
    "in_s_channels": 3,
    "out_s_channels": 2,
    "hidden_s_channels": 8,
}
_ATTENTION = {"num_heads": 2, "head_scale": True}
_VECTORS = {k.replace("_mv_", "_v_"): v for k, v in _MULTIVECTORS.items()} | {"num_heads": 2}
_ARGUMENTS = {
    LGATr: {**_MULTIVECTORS, "attention": _ATTENTION, "mlp": {"mlp_ratio": 2}},
    ConditionalLGATr: {
        **_MULTIVECTORS,
        "attention": _ATTENTION,
        "crossattention": _ATTENTION,
        "mlp": {"mlp_ratio": 2},
        "mv_channels_cond": 3,
        "s_channels_cond": 2,
    },
    LGATrSlim: _VECTORS,
    ConditionalLGATrSlim: {**_VECTORS, "v_channels_cond": 3, "s_channels_cond": 2},
}
KINDS = tuple(_ARGUMENTS)
CONDITIONAL = (ConditionalLGATr, ConditionalLGATrSlim)


def is_slim(kind) -> bool:
    return kind in (LGATrSlim, ConditionalLGATrSlim)


def build(kind, dtype=torch.float64, **options):
    """A network with weights away from their initial symmetry."""
    net = kind(**{**_ARGUMENTS[kind], **options}).to(dtype)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net.eval()


def inputs(kind, *shape, cond=None, dtype=torch.float64, scale=0.5):
    """Multivectors or vectors, then scalars; with those of the condition in between."""
    width = 4 if is_slim(kind) else 16

    def pair(leading, channels, scalars):
        x = scale * torch.randn(*leading, channels, width, dtype=dtype)
        return x.requires_grad_(), torch.randn(*leading, scalars, dtype=dtype).requires_grad_()

    x, s = pair(shape, 2, 3)
    if kind not in CONDITIONAL:
        return x, s
    x_cond, s_cond = pair(cond or shape, 3, 2)
    return x, x_cond, s, s_cond


def attention(kind, **options):
    """Keyword arguments of a call: attention options, the same for both attentions of decoders."""
    if kind not in CONDITIONAL:
        return options
    kv = options.pop("kv_packing", None)
    cross = {**options, "kv_packing": kv} if kv is not None else dict(options)
    return {"attn_kwargs": options, "crossattn_kwargs": cross}
