"""What a tagger takes and is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from experiments.data.batch import DataSpec
from experiments.errors import UserError
from experiments.options.attention_choice import AttentionChoice
from experiments.saved_runs.trust import check_targets
from lgatr.attention.registry import choices

DESCRIPTION = "tagger.json"
PATTERNS = ("mask", "score")


@dataclass(frozen=True)
class Described:
    """What a tagger takes and is.

    Parameters
    ----------
    spec
        Features and classes.
    features
        Names of scalar features of particles, in the order of the network's inputs.
    model
        Configuration of the network, as of ``config/model``, without attention.
    patterns
        ``mask`` and ``score`` of attention, as of ``config/attention``, if it has any.
    max_constituents
        Particles that are kept of each jet, those of highest pT; 0 for all.
    smallest_component
        Particles with a component of momentum of at most this many GeV are dropped; 0 keeps all.
    trained
        Where it comes from, for its card: data, command, date, figures.
    """

    spec: DataSpec
    features: tuple[str, ...]
    model: Mapping[str, Any]
    max_constituents: int = 0
    smallest_component: float = 0.0
    patterns: Mapping[str, Any] = field(default_factory=dict)
    trained: Mapping[str, Any] = field(default_factory=dict)

    def build(self, attention: str, trust: Sequence[str] = ()) -> nn.Module:
        """The network, with new weights.

        Raises
        ------
        UserError
            If the configuration names code that is not part of runs.
        """
        if attention not in choices():
            raise UserError(f"attention {attention!r}: must be one of {', '.join(choices())}")
        check_targets({**self.model, "attention": dict(self.patterns)}, DESCRIPTION, trust)
        make: Any = instantiate(OmegaConf.create(dict(self.model)))
        patterns = {n: instantiate(OmegaConf.create(dict(x))) for n, x in self.patterns.items()}
        choice = {"attention": AttentionChoice(attention, False, **patterns)}
        model: nn.Module = make(spec=self.spec, **(choice if _attends(make) else {}))
        return model


def _attends(make: Any) -> bool:
    """Whether a model takes a backend of attention."""
    code = getattr(make.func.__init__, "__code__", None)
    return code is not None and "attention" in code.co_varnames
