"""Measure how far confidences can be believed: words.jsonl of systems against references.

The files are those that `espnet-blora confidence` writes. Example: two systems on one set, and the
first once more with its confidences mapped.

    espnet-blora calibrate --references dump/raw/test_cs/text
        --words mean=exp/asr_x/confidence/mean/test_cs/words.jsonl
        --words samples8=exp/asr_x/confidence/samples8/test_cs/words.jsonl
        --fit_references dump/raw/valid_cs/text
        --fit_words mean=exp/asr_x/confidence/mean/valid_cs/words.jsonl
        --output_dir exp/asr_x/confidence/all/test_cs

Prints the figures with intervals and paired differences; the folder gets calibration.json (which
the report of the experiments shows), calibration.md, reliability.png and risk_coverage.png. To
choose a temperature, give the files of a validation set written at several: the least NLL wins.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_blora.report.calibration import examined_blocks, risk_lines
from espnet_blora.report.calibration_plots import (
    ReliabilityPanel,
    RiskPanel,
    plot_reliability,
    plot_risk,
)
from espnet_blora.report.page import Page, Section, blocks_markdown, page_markdown
from espnet_blora.scoring.calibration.compare import examine
from espnet_blora.scoring.calibration.measures import BINS
from espnet_blora.scoring.calibration.platt import fit_map
from espnet_blora.scoring.calibration.words import LabelledTokens, label_tokens, read_confidences
from espnet_blora.scoring.modes import MODES
from espnet_blora.utils import atomic
from espnet_blora.utils.keyed import KeyedText
from espnet_blora.utils.program import Parser, run_program

MAPPED = "{} + map"

log = logging.getLogger(__name__)


def get_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser("calibrate", __doc__)
    add = parser.add_argument
    add("--references", required=True, type=Path, help="Kaldi text file, or a folder that has one")
    add("--words", required=True, action="append", metavar="NAME=FILE",
        help="confidences of a system; may be repeated, differences are paired")  # fmt: skip
    add("--fit_references", type=Path, help="references of a validation set, to fit maps on")
    add("--fit_words", action="append", default=[], metavar="NAME=FILE",
        help="the system's confidences there: it is shown once more with p' = sigmoid(a logit p + "
        "b); may be repeated")  # fmt: skip
    add("--mode", default="default", choices=list(MODES), help="unit and normalisation, as in "
        "espnet-blora score")  # fmt: skip
    add("--unit", help="what a token is, instead of the mode's")
    add("--normalisation", help="of both sides, likewise")
    add("--bins", type=int, default=BINS, help="number of bins of confidence")
    add("--utt2spk", type=Path, help="draw whole speakers for intervals, not utterances")
    add("--samples", type=int, default=1000, help="bootstrap draws")
    add("--seed", type=int, default=0, help="seed of the draws")
    add("--output_dir", type=Path, help="folder to write to")
    parser.renamed("--out", "--output_dir")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    return run_program(get_parser(), calibrate, argv)


def calibrate(args: argparse.Namespace) -> None:
    """Measure, print and write.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: Options do not fit each other, or a file does not fit the references.
    """
    # ---- options that must fit each other ----
    given, fitted_on = pairs("--words", args.words), pairs("--fit_words", args.fit_words)
    if bool(fitted_on) != bool(args.fit_references):
        raise ValueError("--fit_references and --fit_words belong together: give both or none")
    if unknown := sorted(fitted_on.keys() - given.keys()):
        raise ValueError(f"--fit_words names {', '.join(unknown)}, which --words does not")
    if args.samples < 1:
        raise ValueError(f"--samples {args.samples}: 1 or more are needed")
    mode = MODES[args.mode]
    how = args.unit or mode.unit, args.normalisation or mode.normalisation

    # ---- the systems, and those with a map once more ----
    systems = _labelled(args.references, given, how)
    notes = {}
    if fitted_on:
        test = dict(systems)
        for name, valid in _labelled(args.fit_references, fitted_on, how):
            fitted, mapped = fit_map(valid), MAPPED.format(name)
            systems.append((mapped, fitted.apply(test[name])))
            notes[mapped] = fitted.describe()
    groups = KeyedText(args.utt2spk) if args.utt2spk else None
    comparison = examine(systems, groups, args.samples, args.seed, args.bins, notes)
    blocks = examined_blocks(comparison)
    sys.stdout.write("\n\n".join(blocks_markdown(blocks)) + "\n")
    if args.output_dir is None:
        return

    # ---- files ----
    folder = args.output_dir
    folder.mkdir(parents=True, exist_ok=True)
    name = _folder(args.references).name
    files = {key: str(path) for key, path in given.items()}
    comparison.save(folder / "calibration.json", references=str(args.references), files=files)
    kinds = {system.name: [system] for system in comparison.systems}
    pictures = [
        plot_reliability(
            folder / "reliability.png",
            [ReliabilityPanel(name, {s.name: s.bins for s in comparison.systems})],
        ),
        plot_risk(folder / "risk_coverage.png", [RiskPanel(name, *risk_lines(kinds))]),
    ]
    drawn = [picture for picture in pictures if picture is not None]
    section = Section(name, [*drawn, *blocks])
    page = Page("Does it know when it is wrong?", sections=[section])
    with atomic.writing(folder / "calibration.md", "w") as file:
        file.write(page_markdown(page))
    log.info("wrote calibration.json, calibration.md and %d plots to %s", len(drawn), folder)


def pairs(option: str, words: Sequence[str]) -> dict[str, Path]:
    """Read `NAME=FILE` words.

    Raises:
        ValueError: A word has another form, or a name stands twice.
    """
    files: dict[str, Path] = {}
    for word in words:
        name, equals, path = word.partition("=")
        if not (name and equals and path):
            raise ValueError(f"{option} {word!r}: NAME=FILE is expected")
        if name in files:
            raise ValueError(f"{option}: the name {name!r} stands twice")
        files[name] = Path(path)
    return files


def _labelled(
    references: Path, files: dict[str, Path], how: tuple[str, str]
) -> list[tuple[str, LabelledTokens]]:
    text = KeyedText(_folder(references) / "text" if references.is_dir() else references)
    return [
        (name, label_tokens(text, read_confidences(path), *how)) for name, path in files.items()
    ]


def _folder(references: Path) -> Path:
    """Return the data directory of references."""
    references = references.absolute()
    return references if references.is_dir() else references.parent


if __name__ == "__main__":
    sys.exit(main())
