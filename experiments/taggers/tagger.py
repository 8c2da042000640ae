"""A trained tagger: jets in, logits and probabilities out.

Legend: J jets, T particles of all jets together, K outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from data.jets import FloatArray, IntArray, Jets
from experiments.data.batch import DataSpec
from experiments.data.features import columns_of
from experiments.data.preparation import Preparation
from experiments.errors import UserError
from experiments.saved_runs.saved_tagger import read_tagger, tagger_folder
from experiments.saved_runs.tagger_description import Described
from experiments.taggers.files import read_run, write_folder

TOKENS = 16_384
"""Particles in a batch, unless a single jet has more."""


class Tagger(nn.Module):
    """A tagger with all that it takes to use it.

    Parameters
    ----------
    described
        Description of inputs, features, units, reference vectors, network and classes.
    model
        The network, from batches to logits.
    """

    def __init__(self, described: Described, model: nn.Module) -> None:
        super().__init__()
        self.described, self.model = described, model
        self.prepare = Preparation(described.features, described.max_constituents)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        attention: str = "auto",
        device: str | torch.device = "cpu",
        trust: Sequence[str] = (),
    ) -> Tagger:
        """Load a tagger; nothing in the folder is executed.

        Parameters
        ----------
        folder
            What :meth:`save_pretrained` wrote, the folder of a finished run, or the name of a
            tagger that comes with the code.
        attention
            Attention backend.
        device
            Where the network goes.
        trust
            Packages besides this project's whose classes the description may name.

        Raises
        ------
        UserError
            If there is no tagger, it is damaged, or of a later version.
        """
        path = tagger_folder(folder)
        is_run = (path / "config.yaml").is_file()
        described, weights = read_run(path, trust) if is_run else read_tagger(path)
        model = described.build(attention, trust)
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise UserError(f"{path}: weights of another network ({reason})") from error
        return cls(described, model).to(device).eval()

    def save_pretrained(self, folder: str | Path) -> list[Path]:
        """Write ``tagger.json``, ``model.safetensors`` and a model card; returns the files.

        Raises
        ------
        UserError
            If the folder holds a tagger already.
        """
        return write_folder(Path(folder), self.described, self.model.state_dict())

    @property
    def spec(self) -> DataSpec:
        """What the network was built for."""
        return self.described.spec

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of probabilities."""
        return self.described.spec.classes

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of particles that the features are computed from; see :mod:`data.columns`."""
        return columns_of(self.described.features)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.model.parameters()).device

    def forward(
        self,
        fourmomenta: Tensor | FloatArray,
        lengths: Sequence[int] | IntArray,
        columns: Mapping[str, Tensor | FloatArray] | None = None,
    ) -> Tensor:
        """Logits of jets.

        Parameters
        ----------
        fourmomenta
            ``(T, 4)`` as (E, px, py, pz) in GeV, one jet after the other.
        lengths
            ``(J,)`` particles of each jet.
        columns
            ``(T,)`` each, those of :attr:`columns`.

        Returns
        -------
        ``(J, K)``; K is 1 for two classes, the logit of the second.

        Raises
        ------
        DataError
            If these are no jets.
        """
        offsets = np.concatenate([[0], np.cumsum(np.asarray(lengths, dtype=np.int64))])
        given = {name: np.asarray(c, dtype=np.float32) for name, c in (columns or {}).items()}
        jets = Jets(
            np.asarray(fourmomenta, dtype=np.float32), offsets, np.zeros(len(lengths), np.int64),
            "the jets given", self.classes, given,
        )  # fmt: skip
        jets.check()
        return self.logits(jets)

    def logits(self, jets: Jets) -> Tensor:
        """Logits ``(J, K)`` in float32 on the CPU, of jets that can be scored."""
        if missing := [name for name in self.columns if name not in jets.particles]:
            raise UserError(
                f"{jets.source}: lacks {', '.join(missing)} of its particles, which the tagger's "
                "features are computed from"
            )
        if self.described.smallest_component:
            jets = jets.without_small_components(self.described.smallest_component)
        jets = self.prepare.truncated(jets)
        found = torch.empty(len(jets), self.spec.num_outputs)
        with torch.inference_mode():
            for rows in batches(jets.lengths):
                batch = self.prepare(jets.select(rows)).to(self.device)
                outputs = self.model(batch).float().cpu()
                found[torch.from_numpy(rows)] = outputs.view(len(rows), -1)
        return found

    def probabilities(self, jets: Jets) -> FloatArray:
        """Probabilities of the classes, ``(J, classes)``."""
        return probabilities(self.logits(jets))


def probabilities(logits: Tensor) -> FloatArray:
    """Probabilities of the classes, ``(J, classes)``, of logits ``(J, K)``."""
    wide = logits.double()
    if wide.shape[1] == 1:
        wide = torch.cat([torch.zeros_like(wide), wide], dim=1)
    found: FloatArray = wide.softmax(dim=1).float().numpy()
    return found


def batches(lengths: IntArray, tokens: int = TOKENS) -> Iterator[IntArray]:
    """Numbers of jets in batches of similar lengths, of at most ``tokens`` particles together."""
    order = np.argsort(lengths, kind="stable")
    ends = np.cumsum(lengths[order])
    first = 0
    while first < len(order):
        before = ends[first - 1] if first else 0
        last = max(int(np.searchsorted(ends, before + tokens, side="right")), first + 1)
        yield order[first:last]
        first = last
