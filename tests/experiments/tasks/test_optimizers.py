"""Each optimizer of ``config/optimizer`` on a network of ours."""

import io

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from experiments.cli import CONFIG_DIR
from experiments.training.schedules import cosine_with_warmup
from lgatr import LGATr
from support.networks import build
from support.slow import every

OPTIMIZERS = sorted((CONFIG_DIR / "optimizer").glob("*.yaml"))


def training(file):
    """A network, its optimizer and schedule."""
    torch.manual_seed(1)
    net = build(LGATr, num_blocks=1)
    optimizer = instantiate(OmegaConf.load(file))(net.parameters())
    return net, optimizer, cosine_with_warmup(optimizer, 40, 4, 0.0)


def steps(net, optimizer, scheduler, count):
    """Losses of steps towards a function of both inputs."""
    generator = torch.Generator().manual_seed(0)
    mv = torch.randn(2, 16, 2, 16, generator=generator, dtype=torch.float64)
    scalars = torch.randn(2, 16, 3, generator=generator, dtype=torch.float64)
    target = scalars[..., :1].tanh() + mv[..., 0, :1]
    losses = []
    for _ in range(count):
        loss = (net(mv, scalars)[1] - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("file", every(2, OPTIMIZERS), ids=lambda f: f.stem)
def test_learns_and_resumes_exactly(file):
    whole = training(file)
    losses = steps(*whole, 25)
    assert losses[-1] < 0.8 * losses[0]
    rest = steps(*whole, 12)

    first, second = training(file), training(file)
    steps(*first, 25)
    stored = io.BytesIO()
    torch.save([part.state_dict() for part in first], stored)
    stored.seek(0)
    # As our checkpoints are read: plain types and tensors, nothing that runs code.
    for part, state in zip(second, torch.load(stored, weights_only=True), strict=True):
        part.load_state_dict(state)
    assert steps(*second, 12) == rest
