"""Fine-tune a trained tagger with a new head.

The head is trained from scratch; the backbone has a lower learning rate.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from torch import Tensor, nn

from experiments.data.batch import DataSpec
from experiments.errors import UserError
from experiments.models.wrapped import WrappedTagger
from experiments.options.markers import Range, Supplied, Text
from experiments.saved_runs import run_directory
from experiments.saved_runs.checkpoints import load_best, model_weights
from experiments.saved_runs.saved_tagger import is_saved_tagger, read_tagger, tagger_folder

_HEAD = "network.linear_out."


def in_class_order(head: Tensor, theirs: tuple[str, ...], ours: tuple[str, ...]) -> Tensor:
    """Reorder a parameter of a head from its classes to ours.

    Its first dimension holds the rows of each class in turn. Two classes share one output, the
    logit of the second.

    Raises
    ------
    UserError
        If the classes differ.
    """
    if sorted(theirs) != sorted(ours):
        raise UserError(
            f"the head knows {', '.join(theirs)}, the sample has {', '.join(ours)}; "
            "train a new one with model.keep_head=false"
        )
    if len(ours) == 2:
        return head if theirs == ours else -head
    rows = head.unflatten(0, (len(theirs), -1))
    return rows[[theirs.index(name) for name in ours]].flatten(0, 1)


class FineTuned(WrappedTagger):
    """A tagger that takes the weights of its backbone, and of its head if wanted, from a run.

    Parameters
    ----------
    spec
        Specification of the data set.
    tagger
        Makes the tagger from ``spec``; it must have an attribute ``network``.
    backbone
        Directory of the run, or of the saved tagger, that weights are taken from; the name of a
        tagger that comes with the code; or ``none`` to train from scratch.
    backbone_lr, head_lr
        Learning rates.
    layer_decay
        Ratio of the learning rates of each block and the next.
    keep_head
        Whether to load the last linear layer, too. Its outputs are reordered by class names, since
        label numbers differ between programs.
    """

    def __init__(
        self,
        spec: DataSpec,
        tagger: Annotated[Callable[..., nn.Module], Supplied("spec")],
        backbone: Text,
        backbone_lr: float,
        head_lr: float,
        layer_decay: Annotated[float, Range(0, 1, above=True)],
        keep_head: bool,
    ) -> None:
        super().__init__(tagger(spec=spec))
        self.backbone_lr, self.head_lr, self.layer_decay = backbone_lr, head_lr, layer_decay
        if backbone != "none":
            self._load(tagger_folder(backbone), spec, keep_head)

    def _load(self, run: Path, spec: DataSpec, keep_head: bool) -> None:
        if is_saved_tagger(run):
            described, weights = read_tagger(run)
            theirs = described.spec
        else:
            theirs, weights = run_directory.read_spec(run), model_weights(load_best(run)[1])
        if theirs.num_scalars != spec.num_scalars:
            raise UserError(
                f"{run} was trained with {theirs.num_scalars} features of particles, not "
                f"{spec.num_scalars}; set data.features as in its config.yaml"
            )
        for name in [name for name in weights if name.startswith(_HEAD)]:
            tensor = weights.pop(name)
            if keep_head:
                weights[name] = in_class_order(tensor, theirs.classes, spec.classes)
        try:
            missing, unexpected = self.tagger.load_state_dict(weights, strict=False)
        except RuntimeError as error:
            lines = str(error).splitlines()
            raise UserError(f"{run}: another network ({lines[-1].strip()})") from error
        missing = [name for name in missing if keep_head or not name.startswith(_HEAD)]
        if missing or unexpected:
            raise UserError(
                f"{run}: another network; e.g. {(missing + unexpected)[0]} does not fit. "
                "Choose model.tagger as in its config.yaml"
            )

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameter groups of an optimizer, each with its learning rate."""
        network = self.tagger.network
        depth = len(network.blocks)
        head = list(network.linear_out.parameters())
        groups: list[dict[str, Any]] = [{"params": head, "lr": self.head_lr}]
        for number, block in enumerate(network.blocks):
            factor = self.layer_decay ** (depth - 1 - number)
            groups.append({"params": list(block.parameters()), "lr": factor * self.backbone_lr})
        known = {id(p) for group in groups for p in group["params"]}
        first = [p for p in self.parameters() if id(p) not in known]
        groups.append({"params": first, "lr": self.layer_decay**depth * self.backbone_lr})
        return groups
