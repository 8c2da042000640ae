"""Take a trained tagger to other programs: ONNX for C++ frameworks, safetensors for Python.

    python -m experiments.export RUN_DIR [--out FOLDER]

writes ``tagger.onnx`` (input ``fourmomenta`` (jets, particles, 4) as (E, px, py, pz) in GeV,
zero-padded, leading particles first, any number of jets and particles; output ``logits``
(jets, outputs)), compares it with the network in ONNX Runtime, and writes ``model.safetensors``
for ``lgatr.LGATr.from_pretrained``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from hydra.utils import instantiate

from data.atomic import atomic_path
from data.errors import install_hint
from data.signals import one_line_interrupts
from experiments import rundir
from experiments.cli import add_trust, one_line_errors
from experiments.errors import UserError
from experiments.models.dense import PaddedTagger
from experiments.saved_config import load_config
from lgatr import load_checkpoint

TOLERANCE = 1e-4
_EXAMPLE = (3, 7)


def load_tagger(run: Path, trust: Sequence[str] = ()) -> PaddedTagger:
    """The tagger of a finished run, with its best weights, on padded jets.

    Parameters
    ----------
    run
        Its folder.
    trust
        Packages beside our own that the run's configuration may call.

    Raises
    ------
    UserError
        If the folder is not one of a run, or holds no checkpoint.
    """
    if not (run / rundir.CONFIG).is_file():
        raise UserError(f"{run}: not the folder of a run; it has no {rundir.CONFIG}")
    cfg = load_config(run, ("data.module", "model"), trust)
    checkpoint = next((run / c for c in (rundir.BEST, rundir.LAST) if (run / c).is_file()), None)
    if checkpoint is None:
        raise UserError(f"{run}: no checkpoint yet; train first")
    datamodule = instantiate(cfg.data.module)
    tagger = instantiate(cfg.model)(spec=rundir.read_spec(run))
    load_checkpoint(tagger.network, checkpoint)
    prepare = datamodule.prepare
    return PaddedTagger(tagger, prepare.features, prepare.max_constituents).eval()


def example_jets(jets: int, particles: int, seed: int) -> torch.Tensor:
    """Massless particles around one direction, padded to different numbers: ``(B, N, 4)``."""
    generator = torch.Generator().manual_seed(seed)
    momenta = 20 * torch.randn(jets, particles, 3, generator=generator)
    momenta[..., 0] += 100
    jets_ = torch.cat([momenta.norm(dim=-1, keepdim=True), momenta], dim=-1)
    lengths = torch.randint(1, particles + 1, (jets, 1), generator=generator)
    return jets_ * (torch.arange(particles) < lengths).unsqueeze(-1)


def write_onnx(tagger: PaddedTagger, path: Path) -> None:
    """Write the tagger as an ONNX file with any number of jets and particles."""
    jets, particles = torch.export.Dim("jets"), torch.export.Dim("particles")
    quiet = io.StringIO()
    with atomic_path(path) as temporary, warnings.catch_warnings():
        # The exporter reports on its own progress and on its own deprecated calls.
        warnings.simplefilter("ignore")
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            torch.onnx.export(
                tagger,
                (example_jets(*_EXAMPLE, seed=0),),
                temporary,
                dynamo=True,
                external_data=False,
                input_names=["fourmomenta"],
                output_names=["logits"],
                dynamic_shapes=({0: jets, 1: particles},),
            )


def onnx_deviation(tagger: PaddedTagger, path: Path) -> float:
    """Largest difference of logits between ONNX Runtime and torch, over jets of several sizes."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for seed, shape in enumerate(((1, 1), (2, 30), (64, 50), (5, 120))):
        jets = example_jets(*shape, seed)
        with torch.no_grad():
            expected = tagger(jets).numpy()
        (logits,) = session.run(None, {"fourmomenta": jets.numpy()})
        worst = max(worst, float(np.abs(logits - expected).max()))
    return worst


def main() -> None:
    """Command line; see the text of this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("run_dir", type=Path, help="folder of a finished run")
    parser.add_argument("--out", type=Path, help="where to write (default: RUN_DIR/export)")
    add_trust(parser)
    options = parser.parse_args()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with one_line_errors():
        tagger = load_tagger(options.run_dir, options.trust)
        folder = options.out or options.run_dir / "export"
        weights = tagger.tagger.network.save_pretrained(folder)
        onnx = folder / "tagger.onnx"
        try:
            write_onnx(tagger, onnx)
            deviation = onnx_deviation(tagger, onnx)
        except ImportError as error:
            raise UserError(f"ONNX needs a package ({error}); {install_hint('onnx')}") from error
    print(f"{weights}\n{onnx}: logits differ by at most {deviation:.1e} in ONNX Runtime")
    if deviation > TOLERANCE:
        sys.exit(f"error: that is more than {TOLERANCE}; do not use this file")


if __name__ == "__main__":
    with one_line_interrupts():
        main()
