"""What a user of lgatr 2.0 could have written; runs unchanged on whichever `lgatr` is importable.

    python dropin_script.py RESULT eager|compiled [WEIGHTS]

Every documented constructor argument of the four networks is used at least once. Weights come from
WEIGHTS (loaded with strict=True) or are drawn here; RESULT receives weights, outputs, gradients.
"""

from __future__ import annotations

import sys

import torch

from lgatr import (
    ConditionalLGATr,
    ConditionalLGATrSlim,
    CrossAttentionConfig,
    LGATr,
    LGATrSlim,
    MLPConfig,
    PrimitivesConfig,
    SelfAttentionConfig,
)

EAGER = {"compile": True, "compile_kwargs": {"backend": "eager"}, "activation_memory_budget": 0.9}

ENCODER = {
    "num_blocks": 2,
    "in_mv_channels": 2,
    "out_mv_channels": 3,
    "hidden_mv_channels": 4,
    "in_s_channels": 3,
    "out_s_channels": 2,
    "hidden_s_channels": 8,
    "attention": {"num_heads": 2},
    "mlp": {},
}
DECODER = {
    **ENCODER,
    "mv_channels_cond": 3,
    "s_channels_cond": 2,
    "crossattention": {"num_heads": 2},
}
SLIM = {
    "num_blocks": 2,
    "in_v_channels": 2,
    "out_v_channels": 3,
    "hidden_v_channels": 4,
    "in_s_channels": 3,
    "out_s_channels": 2,
    "hidden_s_channels": 8,
    "num_heads": 2,
}
SLIM_DECODER = {**SLIM, "v_channels_cond": 3, "s_channels_cond": 2}

ATTENTION = SelfAttentionConfig(num_heads=4, multi_query=True, attn_ratio=2, head_scale=True)
CROSS = CrossAttentionConfig(num_heads=4, multi_query=True, attn_ratio=2, head_scale=True)
MLP = MLPConfig(nonlinearity="silu", mlp_ratio=3, num_layers_mlp=3)
TRAINING = {"dropout_prob": 0.1, "norm_elementwise_affine": False, "checkpoint_blocks": True}
STUDY = PrimitivesConfig(subgroup=False, bivector=False, sparse_gp=False, sparse_linear=True)

VARIANTS = {
    LGATr: {
        "plain": {},
        "configs": {"attention": ATTENTION, "mlp": MLP, **TRAINING},
        "reinsert": {"reinsert_mv_channels": (1,), "reinsert_s_channels": (0, 2)},
        "reinsert multi-query": {"attention": ATTENTION, "reinsert_mv_channels": (0, 1)},
        "study": {"primitives": STUDY},
        "no products": {
            "primitives": {"geometric_product": False},
            "mlp": {"nonlinearity": "relu"},
        },
        "no scalars": {"in_s_channels": 0, "out_s_channels": 0, "naive_amp": True},
        "no vectors out": {"out_mv_channels": 0},
        "gates": {"mlp": {"nonlinearity": "tanh"}, "attention": {"num_heads": 1}},
        "compiled": EAGER,
    },
    ConditionalLGATr: {
        "plain": {},
        "configs": {"attention": ATTENTION, "crossattention": CROSS, "mlp": MLP, **TRAINING},
        "study": {"primitives": STUDY},
        "no scalars": {"in_s_channels": 0, "s_channels_cond": 0, "out_s_channels": 0},
        "no condition scalars": {"s_channels_cond": 0, "naive_amp": True},
        "compiled": EAGER,
    },
    LGATrSlim: {
        "plain": {},
        "configs": {
            "nonlinearity": "silu",
            "nonlinearity_v": None,
            "num_layers_mlp": 3,
            **TRAINING,
        },
        "ratios": {"mlp_ratio": 3, "attn_ratio": 2, "num_heads": 4, "nonlinearity_v": "tanh"},
        "no scalars out": {"out_s_channels": 0, "naive_amp": True},
        "no vectors out": {"out_v_channels": 0},
        "compiled": EAGER,
    },
    ConditionalLGATrSlim: {
        "plain": {},
        "configs": {
            "nonlinearity": "silu",
            "nonlinearity_v": None,
            "num_layers_mlp": 3,
            **TRAINING,
        },
        "ratios": {"mlp_ratio": 3, "attn_ratio": 2, "num_heads": 4, "nonlinearity_v": "relu"},
        "no scalars out": {"out_s_channels": 0, "naive_amp": True},
        "no vectors out": {"out_v_channels": 0},
        "compiled": EAGER,
    },
}
BASE = {
    LGATr: ENCODER,
    ConditionalLGATr: DECODER,
    LGATrSlim: SLIM,
    ConditionalLGATrSlim: SLIM_DECODER,
}


DTYPES = (torch.float32, torch.float64)


def inputs(arguments, slim, dtype):
    """Three events of five tokens, conditions of four tokens, a mask, all from a fixed seed."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    prefix = "v" if slim else "mv"
    width = 4 if slim else 16
    x = draw(3, 5, arguments[f"in_{prefix}_channels"], width).requires_grad_()
    s = draw(3, 5, arguments["in_s_channels"]) if arguments["in_s_channels"] else None
    mask = draw(3, 1, 5, 5) < 0.7
    mask |= torch.eye(5, dtype=torch.bool)
    if f"{prefix}_channels_cond" not in arguments:
        return (x, s), {"attn_mask": mask}
    x_cond = draw(3, 4, arguments[f"{prefix}_channels_cond"], width)
    s_cond = draw(3, 4, arguments["s_channels_cond"]) if arguments["s_channels_cond"] else None
    bias = draw(3, 1, 5, 4)
    kwargs = {"attn_kwargs": {"attn_mask": mask}, "crossattn_kwargs": {"attn_mask": bias}}
    return (x, x_cond, s, s_cond), kwargs


def run(cls, arguments, dtype, weights):
    torch.manual_seed(0)
    net = cls(**arguments)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    net = net.to(dtype)
    if weights is not None:
        net.load_state_dict(weights, strict=True)
    net.eval()
    args, kwargs = inputs(arguments, "in_v_channels" in arguments, dtype)
    out, out_s = net(*args, **kwargs)
    outputs = [t for t in (out, out_s) if t is not None and t.numel()]
    # A fixed nonuniform weighting, so that no gradient vanishes by symmetry.
    total = sum(
        (t * torch.linspace(-1, 1, t.numel(), dtype=dtype).view_as(t)).sum() for t in outputs
    )
    total.backward()
    return {
        "state": net.state_dict(),
        "outputs": [t.detach() for t in outputs],
        "shapes": [None if t is None else tuple(t.shape) for t in (out, out_s)],
        "input gradient": args[0].grad,
        "gradients": {k: p.grad for k, p in net.named_parameters() if p.grad is not None},
        "trainable": [k for k, p in net.named_parameters() if p.requires_grad],
    }


def main(target, kind, source=None):
    given = torch.load(source, weights_only=True) if source else {}
    results = {}
    for cls, variants in VARIANTS.items():
        for name, options in variants.items():
            if (name == "compiled") != (kind == "compiled"):
                continue
            for dtype in DTYPES[:1] if name == "compiled" else DTYPES:
                key = f"{cls.__name__}, {name}, {str(dtype)[6:]}"
                weights = given[key]["state"] if given else None
                results[key] = run(cls, {**BASE[cls], **options}, dtype, weights)
    torch.save(results, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
