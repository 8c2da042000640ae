"""Networks of lgatr 1.x as its users built them: weights, inputs and outputs of each.

python legacy_script.py RESULT
"""

from __future__ import annotations

import sys

import torch

from lgatr import LGATr, MLPConfig, SelfAttentionConfig

FIRST = "CrossAttentionConfig" not in dir(__import__("lgatr"))  # 1.0 had the encoder alone
COMMON = {"num_blocks": 2, "in_s_channels": 2, "out_s_channels": 1, "hidden_s_channels": 8}
MULTIVECTORS = {**COMMON, "in_mv_channels": 2, "out_mv_channels": 1, "hidden_mv_channels": 4}
VECTORS = {
    **COMMON,
    "in_v_channels": 2,
    "out_v_channels": 1,
    "hidden_v_channels": 4,
    "num_heads": 2,
}


def networks():
    attention = SelfAttentionConfig(num_heads=2, multi_query=False, head_scale=True)
    yield "encoder", LGATr(**MULTIVECTORS, attention=attention, mlp=MLPConfig()), False
    if FIRST:
        return
    from lgatr import ConditionalLGATr, ConditionalLGATrSlim, CrossAttentionConfig, LGATrSlim

    yield (
        "decoder",
        ConditionalLGATr(
            **MULTIVECTORS,
            condition_mv_channels=3,
            condition_s_channels=3,
            attention=SelfAttentionConfig(num_heads=2),
            crossattention=CrossAttentionConfig(num_heads=2),
            mlp=MLPConfig(),
        ),
        True,
    )
    yield "slim", LGATrSlim(**VECTORS), False
    slim_decoder = ConditionalLGATrSlim(**VECTORS, condition_v_channels=3, condition_s_channels=3)
    yield "slim decoder", slim_decoder, True


def main(target):
    torch.manual_seed(0)
    results = {}
    for name, net, conditional in networks():
        net = net.double()
        width = 4 if "slim" in name else 16
        x = torch.randn(3, 5, 2, width, dtype=torch.float64)
        s = torch.randn(3, 5, 2, dtype=torch.float64)
        inputs = [x, s]
        if conditional:
            x_cond = torch.randn(3, 4, 3, width, dtype=torch.float64)
            inputs = [x, x_cond, s, torch.randn(3, 4, 3, dtype=torch.float64)]
        outputs = [t.detach() for t in net(*inputs)]
        results[name] = {"state": net.state_dict(), "inputs": inputs, "outputs": outputs}
    torch.save(results, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
