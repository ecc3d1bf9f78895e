"""Measure how far confidences can be believed: words.jsonl of systems against references.

The files are those that `espnet-blora confidence` writes. Example, two systems on one set, and the
first once more with its confidences mapped:

    espnet-blora calibrate --references dump/raw/test_cs/text
        --words mean=exp/asr_x/confidence/mean/test_cs/words.jsonl
        --words samples8=exp/asr_x/confidence/samples8/test_cs/words.jsonl
        --fit_references dump/raw/valid_cs/text
        --fit_words mean=exp/asr_x/confidence/mean/valid_cs/words.jsonl
        --output_dir exp/asr_x/confidence/all/test_cs

Prints the figures with intervals and paired differences. The folder gets calibration.json (which
the report of the experiments shows), calibration.md, reliability.png and risk_coverage.png. To
choose a temperature, give the files of a validation set written at several: the least NLL wins.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from espnet_blora.report.calibration import examined_blocks, risk_lines
from espnet_blora.report.calibration_plots import (
    Panel,
    plot_reliability,
    plot_risk,
)
from espnet_blora.report.page import Page, Section, blocks_markdown, page_markdown
from espnet_blora.scoring.calibration.compare import Examined, examine_files
from espnet_blora.scoring.calibration.measures import BINS
from espnet_blora.scoring.modes import MODES
from espnet_blora.utils import atomic
from espnet_blora.utils.program import Parser, pairs, program

log = logging.getLogger(__name__)


def get_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser("calibrate", __doc__)
    add = parser.add_argument
    add("--references", required=True, type=Path, help="Kaldi text file, or a folder that has one")
    add(
        "--words",
        required=True,
        action="append",
        metavar="NAME=FILE",
        help="confidences of a system; may be repeated, differences are paired",
    )
    add("--fit_references", type=Path, help="references of a validation set, to fit maps on")
    add(
        "--fit_words",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="the system's confidences there: it is shown once more with p' = sigmoid(a logit p + "
        "b); may be repeated",
    )
    add(
        "--mode", default="default", choices=list(MODES), help="unit and normalisation, as in score"
    )
    add("--unit", help="what a token is, instead of the mode's")
    add("--normalisation", help="of both sides, likewise")
    add("--bins", type=int, default=BINS, help="number of bins of confidence")
    add("--utt2spk", type=Path, help="draw whole speakers for intervals, not utterances")
    add("--samples", type=int, default=1000, help="bootstrap draws")
    add("--seed", type=int, default=0, help="seed of the draws")
    add("--output_dir", type=Path, help="folder to write to")
    parser.renamed("--out", "--output_dir")
    return parser


def work(args: argparse.Namespace) -> None:
    """Measure, print and write."""
    files = named_files("--words", args.words)
    mode = MODES[args.mode]
    examined = examine_files(
        args.references,
        files,
        args.fit_references,
        named_files("--fit_words", args.fit_words),
        unit=args.unit or mode.unit,
        normalisation=args.normalisation or mode.normalisation,
        utt2spk=args.utt2spk,
        samples=args.samples,
        seed=args.seed,
        bins=args.bins,
    )
    sys.stdout.write("\n\n".join(blocks_markdown(examined_blocks(examined))) + "\n")
    if args.output_dir is not None:
        write(examined, args.references, files, args.output_dir)


def named_files(option: str, words: Sequence[str]) -> dict[str, Path]:
    """Read the `NAME=FILE` words of an option."""
    return {name: Path(file) for name, file in pairs(words, option).items()}


def write(examined: Examined, references: Path, files: Mapping[str, Path], folder: Path) -> None:
    """Write the figures as JSON, as a page, and as two plots."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {key: str(path) for key, path in files.items()}
    examined.save(folder / "calibration.json", references=str(references), files=paths)
    whole = references.absolute()
    name = whole.name if whole.is_dir() else whole.parent.name  # of the data directory
    kinds = {system.name: [system] for system in examined.systems}
    bins = {system.name: system.bins for system in examined.systems}
    pictures = [
        plot_reliability(folder / "reliability.png", [Panel(name, bins)]),
        plot_risk(folder / "risk_coverage.png", [Panel(name, *risk_lines(kinds))]),
    ]
    drawn = [picture for picture in pictures if picture is not None]
    section = Section(name, [*drawn, *examined_blocks(examined)])
    page = Page("Does it know when it is wrong?", sections=[section])
    atomic.write(folder / "calibration.md", page_markdown(page))
    log.info("wrote calibration.json, calibration.md and %d plots to %s", len(drawn), folder)


main = program(get_parser, work)

if __name__ == "__main__":
    sys.exit(main())
