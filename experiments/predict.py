"""Apply a trained tagger to files of jets.

    python -m experiments.predict TAGGER FILE... --out scores.root

TAGGER is the folder of a finished run, one that a tagger was saved to, or the name of one that
comes with the code. FILE is of any format that can be trained on, or of any that --description
describes; labels are not needed. Of a file with splits, --split says which jets. --out ends in
.root, .parquet or .h5; of several files it is a folder, and --format says which. Every jet has a
row, in the order of the file: ``score_CLASS`` is the probability of each class, and ``scored`` is
false for jets that cannot be scored (no particles, or values that are not finite). Interrupted, the
same command goes on.
"""

from __future__ import annotations

from pathlib import Path

import torch

from data.command import Parser, program
from experiments.cli import add_trust, one_line_errors, one_line_warnings, quiet_libraries
from experiments.saved_runs.trust import check_trust
from experiments.taggers import Tagger
from experiments.taggers.outputs import WRITERS
from experiments.taggers.prediction import Wanted, digest_of, outputs, predict
from lgatr.attention.registry import choices
from lgatr.utils.memory import keep_freed_memory


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's text."""
    parser = Parser("experiments.predict", __doc__)
    parser.add_argument("tagger", type=Path, help="folder of a tagger or of a run, or a name")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="file of jets")
    parser.add_argument(
        "--out", type=Path, required=True, help=", ".join(WRITERS) + ", or a folder"
    )
    parser.add_argument("--format", choices=[x[1:] for x in WRITERS], default="root",
                        help="of files in a folder (default: root)")  # fmt: skip
    parser.add_argument(
        "--description", type=Path, help="YAML that describes FILE; see docs/files.md"
    )
    parser.add_argument("--keep", default="", metavar="NAME,...",
                        help="columns to copy, such as the number of the event")  # fmt: skip
    parser.add_argument("--logits", action="store_true", help="write logits as well")
    parser.add_argument("--split", choices=("train", "val", "test"), default="test",
                        help="of files that hold several (default: test)")  # fmt: skip
    parser.add_argument("--attention", choices=choices(), default="auto", help="backend")
    add_trust(parser)
    options = parser.parse_args(arguments)
    quiet_libraries()
    one_line_warnings()
    keep_freed_memory()
    with one_line_errors():
        check_trust(options.trust)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        targets = outputs(options.files, options.out, f".{options.format}")
        keep = tuple(name for name in map(str.strip, options.keep.split(",")) if name)
        wanted = [
            Wanted(file, out, options.description, keep, options.split, options.logits)
            for file, out in zip(options.files, targets, strict=True)
        ]
        tagger = Tagger.from_pretrained(options.tagger, options.attention, device, options.trust)
        digest = digest_of(tagger)
        for one in wanted:
            print(predict(tagger, one, digest), flush=True)


if __name__ == "__main__":
    with program():
        main()
