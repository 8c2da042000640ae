"""ParticleNet (arXiv 1902.08570), as weaver-core implements it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from experiments.data.batch import DataSpec, EventBatch
from experiments.data.features import compute_features
from experiments.models.baselines.layout import pad_events
from experiments.models.optional import needed

NEIGHBOR_FEATURES = ("log_pt", "log_energy", "log_pt_relative", "log_energy_relative", "delta_r")
PLANE = ("delta_eta", "delta_phi")


class ParticleNet(nn.Module):
    """Edge convolutions over nearest neighbours, first in the plane of (η, φ), then in features.

    It sees the seven kinematic features of its paper and the scalars of the data set.

    Parameters
    ----------
    spec
        Specification of the data set.
    conv_params
        Neighbours and channels of each edge convolution.
    fc_params
        Width and dropout of each layer behind the pooling.
    use_fusion
        Whether the outputs of all convolutions are joined.
    """

    executed_attention = "none"

    def __init__(
        self,
        spec: DataSpec,
        conv_params: Sequence[tuple[int, Sequence[int]]],
        fc_params: Sequence[tuple[int, float]],
        use_fusion: bool,
    ) -> None:
        super().__init__()
        if not conv_params:
            raise ValueError("model.conv_params needs at least one edge convolution")
        module = needed("weaver.nn.model.ParticleNet", "particlenet")
        # Events need more places than neighbours, and are padded to have them.
        self.min_places = 1 + max(k for k, _ in conv_params)
        self.net = module.ParticleNet(
            input_dims=len(NEIGHBOR_FEATURES) + len(PLANE) + spec.num_scalars,
            num_classes=spec.num_outputs,
            conv_params=[(k, tuple(channels)) for k, channels in conv_params],
            fc_params=[(width, dropout) for width, dropout in fc_params],
            use_fusion=use_fusion,
            trim=False,
        )

    def forward(self, batch: EventBatch) -> Tensor:
        """Logits ``(B, outputs)``."""
        names = (*PLANE, *NEIGHBOR_FEATURES)
        kinematics = compute_features(batch.fourmomenta, batch.packing, names)
        values = kinematics.new_empty(len(kinematics), len(names) + batch.scalars.shape[1])
        values[:, : len(names)], values[:, len(names) :] = kinematics, batch.scalars
        padded, real = pad_events(values, batch.packing, self.min_places)
        channels, mask = padded.mT, real.unsqueeze(1)
        logits: Tensor = self.net(channels[:, :2], channels, mask.to(channels.dtype))
        return logits
