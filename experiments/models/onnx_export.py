"""Write the tagger of a finished run as an ONNX file, and compare it with torch."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from torch.nn.attention import SDPBackend, sdpa_kernel

from data.atomic import check_new
from data.errors import install_hint
from experiments.errors import UserError
from experiments.models.finetune import FineTuned
from experiments.models.onnx_padded_tagger import PaddedTagger
from experiments.saved_runs import run_directory
from experiments.saved_runs.checkpoints import load_best, model_weights
from experiments.saved_runs.saved_config import load_config

TOLERANCE = 1e-4
"""Largest difference of logits between torch and ONNX Runtime."""
ONNX = "tagger.onnx"
WEIGHTS = "model.safetensors"
_EXAMPLE = (3, 7)
_CHECKS = ((1, 1), (2, 30), (64, 50), (5, 120))
Write = Callable[[PaddedTagger, Path], None]
Compare = Callable[[PaddedTagger, Path], float]


def load_tagger(run: Path, trust: Sequence[str] = ()) -> PaddedTagger:
    """Load the tagger of a run with its best weights, for padded jets.

    Parameters
    ----------
    run
        Run directory.
    trust
        Packages besides our own that the run's configuration may call.

    Raises
    ------
    UserError
        If it is no run directory, has no checkpoint, or the model has no padded form.
    """
    if not (run / run_directory.CONFIG).is_file():
        raise UserError(f"{run}: not the folder of a run; it has no {run_directory.CONFIG}")
    path, checkpoint = load_best(run)
    cfg = load_config(run, ("data", "model"), trust)
    spec = run_directory.read_spec(run)
    if spec.quantity is not None or spec.final_state is not None:
        raise UserError(f"{run}: predicts {spec.described}; taggers alone are exported")
    make: Any = instantiate(cfg.model)
    # Weights are loaded below; the run it was fine-tuned from may be gone.
    start = {"backbone": "none"} if make.func is FineTuned else {}
    tagger = make(spec=spec, **start)
    prepare = instantiate(cfg.data).prepare
    padded = PaddedTagger(
        tagger,
        prepare.features,
        prepare.max_constituents,
        cfg.data.get("smallest_component", 0.0),
    )
    try:
        tagger.load_state_dict(model_weights(checkpoint))
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"{path}: weights of another model ({reason})") from error
    return padded.eval()


def example_jets(jets: int, particles: int, seed: int) -> torch.Tensor:
    """Massless particles around one direction, padded to different numbers: ``(B, N, 4)``."""
    generator = torch.Generator().manual_seed(seed)
    momenta = 20 * torch.randn(jets, particles, 3, generator=generator)
    momenta[..., 0] += 100
    jets_ = torch.cat([momenta.norm(dim=-1, keepdim=True), momenta], dim=-1)
    lengths = torch.randint(1, particles + 1, (jets, 1), generator=generator)
    return jets_ * (torch.arange(particles) < lengths).unsqueeze(-1)


def example_inputs(
    tagger: PaddedTagger, jets: int, particles: int, seed: int
) -> dict[str, torch.Tensor]:
    """Example inputs by name: jets, and the columns that the tagger needs."""
    momenta = example_jets(jets, particles, seed)
    generator = torch.Generator().manual_seed(seed)
    columns = {
        name: torch.randn(jets, particles, generator=generator) * (momenta[..., 0] > 0)
        for name in tagger.columns
    }
    return {"fourmomenta": momenta, **columns}


def write_onnx(tagger: PaddedTagger, path: Path) -> None:
    """Write the tagger as an ONNX file with any number of jets and particles."""
    jets = torch.export.Dim("jets")
    particles = torch.export.Dim("particles", max=tagger.max_particles)
    inputs = example_inputs(tagger, *_EXAMPLE, seed=0)
    sizes: Any = {0: jets, 1: particles}
    # One entry for each argument: the momenta, and all columns together.
    shapes = (sizes, (sizes,) * len(tagger.columns)) if tagger.columns else (sizes,)
    quiet = io.StringIO()
    with warnings.catch_warnings():
        # The exporter reports on its own progress and on its own deprecated calls.
        warnings.simplefilter("ignore")
        # Traced with the attention that ONNX gets: that of a fused kernel has other strides.
        formula = sdpa_kernel(SDPBackend.MATH)
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet), formula:
            program = torch.onnx.export(
                tagger,
                tuple(inputs.values()),
                dynamo=True,
                optimize=False,
                input_names=list(inputs),
                output_names=["logits"],
                dynamic_shapes=shapes,
            )
            assert program is not None
            _simplify(program.model)
            program.save(path, external_data=False)


def _simplify(model: Any) -> None:
    """Fold constants and drop what is not used.

    The exporter's own optimisation does so too, and then tries hundreds of rewriting rules on each
    of thousands of operations: 112 of 177 seconds for a network of four blocks, of which 1635
    operations were left instead of 1700.
    """
    from onnx_ir.passes import common
    from onnxscript.optimizer import fold_constants, remove_unused_nodes

    fold_constants(model)
    remove_unused_nodes(model)
    for one in (common.DeduplicateInitializersPass, common.CommonSubexpressionEliminationPass):
        one()(model)


def onnx_deviation(tagger: PaddedTagger, path: Path) -> float:
    """Largest difference of logits between ONNX Runtime and torch, for several sizes of jets."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for seed, shape in enumerate(_CHECKS):
        inputs = example_inputs(tagger, *shape, seed)
        with torch.no_grad():
            expected = tagger(*inputs.values()).numpy()
        (logits,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        worst = max(worst, float(np.abs(logits - expected).max()))
    return worst


class _Progress:
    """Print what is being done, with the seconds since the start."""

    def __init__(self) -> None:
        self.start = time.monotonic()

    def __call__(self, what: str) -> None:
        seconds = time.monotonic() - self.start
        print(f"[{seconds:4.0f} s] {what}", flush=True)


def export(
    run: Path,
    folder: Path,
    trust: Sequence[str] = (),
    also: Mapping[str, tuple[Write, Compare]] | None = None,
) -> tuple[list[Path], float]:
    """Export a run's tagger: write all files to a directory, or none.

    Parameters
    ----------
    run, folder, trust
        Run directory, where files go, and packages besides our own that its configuration may call.
    also
        Further files by name: how each is written, and compared with torch.

    Returns
    -------
    The files, and the largest difference of logits.

    Raises
    ------
    DataError
        If one of the files exists.
    UserError
        If the model does not export, a package is missing, or logits differ by more than
        ``TOLERANCE``.
    """
    step = _Progress()
    further = dict(also or {})
    check_new(folder / ONNX, folder / WEIGHTS, *(folder / name for name in further))
    tagger = load_tagger(run, trust)
    network = getattr(tagger.tagger, "network", None)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.partial-") as name:
        temporary = Path(name)
        try:
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
            import onnxscript  # noqa: F401

            step("tracing the network and writing ONNX; the longest step, longer with more blocks")
            write_onnx(tagger, temporary / ONNX)
            step("comparing with torch in ONNX Runtime")
            deviation = onnx_deviation(tagger, temporary / ONNX)
        except ImportError as error:
            raise UserError(f"ONNX needs {error.name}; {install_hint('onnx')}") from error
        for name, (write, compare) in further.items():
            step(f"compiling {name}, and comparing it with torch")
            write(tagger, temporary / name)
            deviation = max(deviation, compare(tagger, temporary / name))
        if not deviation <= TOLERANCE:
            raise UserError(
                f"{run}: exported logits differ by {deviation:.1e}, more than {TOLERANCE}; nothing "
                "was kept"
            )
        if network is not None:
            network.save_pretrained(temporary)
        folder.mkdir(exist_ok=True)
        files = [folder / file.name for file in sorted(temporary.iterdir())]
        check_new(*files)
        for file in files:
            os.replace(temporary / file.name, file)
    step("done")
    return files, deviation
