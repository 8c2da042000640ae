r"""Networks whose learning rate does not depend on their width.

In the maximal update parametrisation (arXiv:2203.03466, table 3, for Adam and its like) every
activation changes by as much in a step, however wide the network. With :math:`r`, the inputs of a
matrix over those it has in a narrow network, the base:

* matrices with inputs that grow have learning rates :math:`\eta / r`;
* those of the last layer, whose outputs do not grow, are also smaller by :math:`\sqrt r` at the
  start, so that logits start smaller in wider networks;
* everything else (first layers, biases, gains) is as in the base.

Channels of a head must not grow, only the number of heads: attention weights grow with their
channels otherwise. What grows is found by comparison with the base, parameter by parameter, so that
this holds for any network.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from experiments.data.batch import DataSpec
from experiments.errors import UserError
from experiments.models.wrapped import WrappedTagger
from experiments.options.markers import Positive, Range, Supplied


def growth(wide: Tensor, narrow: Tensor) -> tuple[float, float]:
    """Outputs and inputs of a parameter over those of the base.

    Vectors, such as biases and gains, have outputs alone. The first dimension of matrices is that
    of outputs.
    """
    if wide.ndim < 2 or not narrow.numel():
        return wide.numel() / max(narrow.numel(), 1), 1.0
    return len(wide) / len(narrow), wide[0].numel() / narrow[0].numel()


def multiplied(make: Any, option: str, factor: int) -> Any:
    """The same partial function, or mapping, with one of its numbers multiplied.

    Parameters
    ----------
    make
        Options by name, perhaps with others inside.
    option
        Names down to the number, with dots between them.
    factor
        What the number is multiplied by.

    Raises
    ------
    UserError
        If there is no such number.
    """

    def inner(part: Any, names: Sequence[str]) -> Any:
        if not names and isinstance(part, int) and not isinstance(part, bool):
            return factor * part
        options = part.keywords if isinstance(part, partial) else part
        if not names or not isinstance(options, Mapping) or names[0] not in options:
            raise UserError(
                f"model.grows: model.tagger has no whole number {option}; name its channels and "
                "heads"
            )
        changed = {**options, names[0]: inner(options[names[0]], names[1:])}
        return partial(part.func, *part.args, **changed) if isinstance(part, partial) else changed

    return inner(make, option.split("."))


class MaximalUpdate(WrappedTagger):
    """A tagger in the maximal update parametrisation.

    Parameters
    ----------
    spec
        Specification of the data set.
    tagger
        Makes the base from ``spec``, in the width at which learning rates are searched.
    width
        How many times wider the network is.
    grows
        Options of the tagger that are multiplied by it: channels, and heads.
    lr, weight_decay
        Of the optimizer; the product of both is the same for all parameters. None leaves weight
        decay as it is.
    """

    def __init__(
        self,
        spec: DataSpec,
        tagger: Annotated[Callable[..., nn.Module], Supplied("spec")],
        width: Annotated[int, Range(1, 1024)],
        grows: list[str],
        lr: Positive,
        weight_decay: Annotated[float, Range(0, None)] | None,
    ) -> None:
        wider: Any = tagger
        for option in grows:
            wider = multiplied(wider, option, width)
        super().__init__(wider(spec=spec))
        self.lr, self.weight_decay = lr, weight_decay
        # The base is made for its shapes alone: it may not move the random numbers of a run.
        with torch.random.fork_rng(devices=[]):
            narrow = dict(tagger(spec=spec).named_parameters())
        self._inputs: dict[str, float] = {}
        for name, parameter in self.tagger.named_parameters():
            outputs, inputs = growth(parameter, narrow[name])
            self._inputs[name] = inputs
            if inputs != 1 and outputs == 1:
                with torch.no_grad():
                    parameter.div_(math.sqrt(inputs))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameter groups of an optimizer, each with its learning rate and weight decay."""
        groups: dict[float, list[nn.Parameter]] = defaultdict(list)
        for name, parameter in self.tagger.named_parameters():
            groups[self._inputs[name]].append(parameter)
        decay = self.weight_decay
        return [
            {"params": group, "lr": self.lr / r}
            | ({} if decay is None else {"weight_decay": decay * r})
            for r, group in sorted(groups.items())
        ]
