"""The card of a tagger: what it is, what it takes, how it was trained, what it is not for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.data.features import columns_of
from experiments.report.published import value_with_error
from experiments.saved_runs.tagger_description import Described

_TEMPLATE = """# {title}

Tells {classes} apart, by the four-momenta of a jet's particles{features}.

| | |
|---|---|
| network | {network}, {parameters:,} parameters |
| momenta | (E, px, py, pz) in GeV, particles in any order{most} |
| particle columns | {columns} |
| output | {output} |
{trained}
## Use

```python
from experiments.taggers import Tagger

tagger = Tagger.from_pretrained("THIS_FOLDER")
logits = tagger(fourmomenta, lengths)   # (particles, 4), and how many of them each jet has
```

```
python -m experiments.predict THIS_FOLDER FILE --out scores.root
```

## Not for

It knows jets like those of its training: of the same generator, detector, clustering, momenta and
classes. On others, probabilities are not calibrated and rejections are not those below; measure
both there before using it, and train or fine-tune on them where you can.
{figures}"""


def card(described: Described, parameters: int) -> str:
    """Text of the card, in Markdown."""
    classes, trained = described.spec.classes, described.trained
    network = str(described.model.get("_target_", "")).rsplit(".", 1)[-1]
    features, columns = ", ".join(described.features), ", ".join(columns_of(described.features))
    most = f"; the {described.max_constituents} of highest pT are kept"
    two = f"one logit, that of {classes[-1]}"
    return _TEMPLATE.format(
        title=f"{network} of {trained.get('experiment') or 'jets'}",
        classes=" and ".join(classes) if len(classes) == 2 else ", ".join(classes),
        features=f" and {features}" if features else "",
        network=network,
        parameters=parameters,
        most=most if described.max_constituents else "",
        columns=columns or "none",
        output=two if len(classes) == 2 else f"a logit for each class, {', '.join(classes)}",
        trained=_training(trained),
        figures=_figures(trained.get("metrics")),
    )


def _training(trained: Mapping[str, Any]) -> str:
    rows = []
    for name, title in (
        ("data", "trained on"), ("steps", "steps"), ("date", "date"), ("git_revision", "commit"),
        ("symmetry", "symmetry"),
    ):  # fmt: skip
        if trained.get(name) is not None:
            rows.append(f"| {title} | {trained[name]} |")
    if trained.get("command"):
        rows.append(f"| command | `python run.py {' '.join(map(str, trained['command']))}` |")
    return "\n".join(rows) + ("\n" if rows else "")


def _figures(metrics: Any) -> str:
    if not isinstance(metrics, Mapping):
        return ""
    rows = [
        f"| {name} | {value_with_error(dict(metrics), name)} |"
        for name in metrics
        if f"{name}_error" in metrics
    ]
    if not rows:
        return ""
    return "\n".join(["\n## On its own test jets\n", "| | |", "|---|---|", *rows, ""])
