"""A transformer of lloca 2.0 whose frames come from L-GATr; runs on any importable `lgatr`.

python lloca_script.py RESULT [WEIGHTS [packed]]
"""

from __future__ import annotations

import sys
from functools import partial

import torch
from lloca.backbone.transformer import Transformer
from lloca.equivectors import LGATrSlimVectors, LGATrVectors
from lloca.framesnet.equi_frames import LearnedPDFrames

from lgatr import LGATr, LGATrSlim

SCALARS = 2


def equivectors(slim):
    common = {"num_scalars": SCALARS, "hidden_s_channels": 16}
    if slim:
        net = partial(
            LGATrSlim,
            num_blocks=1,
            in_v_channels=1,
            hidden_v_channels=8,
            hidden_s_channels=16,
            num_heads=2,
        )
        return partial(LGATrSlimVectors, hidden_v_channels=8, net=net, **common)
    net = partial(
        LGATr,
        num_blocks=1,
        in_mv_channels=1,
        hidden_mv_channels=8,
        hidden_s_channels=16,
        attention={"num_heads": 2},
        mlp={},
    )
    return partial(LGATrVectors, hidden_mv_channels=8, net=net, **common)


def run(slim, weights):
    torch.manual_seed(0)
    frames_net = LearnedPDFrames(equivectors=equivectors(slim)).double()
    backbone = Transformer(
        in_channels=SCALARS + 4,
        attn_reps="8x0n+2x1n",
        out_channels=1,
        num_blocks=1,
        num_heads=2,
        preserve_variance=False,
    ).double()
    model = torch.nn.ModuleDict({"frames": frames_net, "backbone": backbone})
    if weights is not None:
        model.load_state_dict(weights, strict=True)
    generator = torch.Generator().manual_seed(1)
    momenta = torch.randn(11, 3, generator=generator, dtype=torch.float64)
    energy = (momenta.square().sum(-1, keepdim=True) + 0.1).sqrt()
    momenta = torch.cat([energy, momenta], dim=-1)
    scalars = torch.randn(11, SCALARS, generator=generator, dtype=torch.float64)
    # One event: on a CPU the reference library has no kernel for several.
    ptr = None if len(sys.argv) < 4 else torch.tensor([0, 4, 11])
    frames = model["frames"](momenta, scalars, ptr=ptr)
    local = torch.einsum("nij,nj->ni", frames.matrices, momenta)
    out = model["backbone"](torch.cat([scalars, local], dim=-1), frames, ptr=ptr)
    out.square().sum().backward()
    return {
        "state": model.state_dict(),
        "outputs": [out.detach(), frames.matrices.detach()],
        "gradients": {k: p.grad for k, p in model.named_parameters() if p.grad is not None},
    }


def main(target, source=None, packed=None):
    given = torch.load(source, weights_only=True) if source else {}
    results = {
        name: run(name == "slim", given[name]["state"] if given else None)
        for name in ("multivectors", "slim")
    }
    torch.save(results, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
