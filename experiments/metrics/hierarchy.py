"""How near events are to the soft and collinear limits, where amplitudes diverge."""

from __future__ import annotations

import torch
from torch import Tensor

from experiments.data.batch import EventBatch

_TINY = 1e-300


def hierarchy(batch: EventBatch) -> Tensor:
    """The smallest over the largest of an event's products ``|p_i . p_j|``, ``(B,)`` float64.

    It is Lorentz-invariant and goes to zero where a particle becomes soft or two become collinear.
    Zero for events of one particle.

    Parameters
    ----------
    batch
        Events.
    """
    found = torch.zeros(len(batch), dtype=torch.float64, device=batch.fourmomenta.device)
    lengths = torch.tensor(batch.packing.lengths)
    for length in lengths.unique().tolist():  # nearly always one, because processes have one
        if length < 2:
            continue
        numbers = (lengths == length).nonzero()[:, 0].to(found.device)
        rows = batch.packing.ptr[numbers].long()[:, None] + torch.arange(
            length, device=found.device
        )
        p = batch.fourmomenta[rows].double()
        first, second = torch.triu_indices(length, length, 1, device=found.device)
        a, b = p[:, first], p[:, second]
        products = (a[..., 0] * b[..., 0] - (a[..., 1:] * b[..., 1:]).sum(-1)).abs()
        found[numbers] = products.amin(1) / products.amax(1).clamp_min(_TINY)
    return found
