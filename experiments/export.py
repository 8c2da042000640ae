"""Export a trained tagger: ONNX for C++ frameworks, safetensors for Python.

    python -m experiments.export RUN_DIR [--out FOLDER] [--aot]

writes ``tagger.onnx`` (input ``fourmomenta`` (jets, particles, 4) as (E, px, py, pz) in GeV,
zero-padded, leading particles first, any number of jets and particles; further inputs
(jets, particles) named as the columns of particles that the run's features need; output
``logits`` (jets, outputs)) and compares it with the network in ONNX Runtime. Runs of L-GATr and
L-GATr-slim also leave ``model.safetensors`` for ``from_pretrained``. ``--aot`` adds ``tagger.pt2``,
compiled for this machine, which C++ programs load without Python (``examples/aot``). Nothing is
left of an export that fails.
"""

from __future__ import annotations

import logging
from pathlib import Path

from data.command import Parser, program
from experiments.cli import add_trust, one_line_errors
from experiments.errors import UserError
from experiments.models.aot_export import PACKAGE, package_deviation, write_package
from experiments.models.onnx_export import export
from experiments.options.output_paths import check_folder, encoding_problem
from experiments.saved_runs.trust import check_trust


def main() -> None:
    """Command line; see the text of this file."""
    parser = Parser("experiments.export", __doc__)
    parser.add_argument("run_dir", type=Path, help="folder of a finished run")
    parser.add_argument("--out", help="where to write (default: RUN_DIR/export)")
    parser.add_argument("--aot", action="store_true", help="also compile for this machine")
    add_trust(parser)
    options = parser.parse_args()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with one_line_errors():
        folder = options.run_dir / "export" if options.out is None else Path(options.out)
        if options.out is not None:
            check_folder(folder, "--out")
        elif problem := encoding_problem(folder):
            raise UserError(problem)
        check_trust(options.trust)
        also = {PACKAGE: (write_package, package_deviation)} if options.aot else None
        files, deviation = export(options.run_dir, folder, options.trust, also)
    for file in files:
        print(file)
    print(f"logits differ by at most {deviation:.1e} from those of torch")


if __name__ == "__main__":
    with program():
        main()
