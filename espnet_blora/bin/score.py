"""Score hypotheses against references: Kaldi `text` files, or directories that hold one.

Example: `espnet-blora score data/test exp/asr_x/decode/test --unit mer wer --output_dir o`. Status
1: sclite or jiwer counts otherwise on the same tokens, and nothing explains it.
"""

from __future__ import annotations

import argparse
import logging
import sys

from espnet_blora.scoring import UNITS, SetScore
from espnet_blora.scoring.intervals import RESAMPLE
from espnet_blora.scoring.job import open_job, text_of
from espnet_blora.scoring.modes import MODES, combinations
from espnet_blora.scoring.output import espnet_table, lines_of, score_modes
from espnet_blora.scoring.sclite import find_sclite
from espnet_blora.text import NORMALISATIONS
from espnet_blora.utils.program import Parser, program

log = logging.getLogger(__name__)


def get_parser() -> Parser:
    """Return the command line's parser."""
    modes = "; ".join(f"{name}: {mode.note}" for name, mode in MODES.items())
    parser = Parser("score", __doc__, epilog=f"modes: {modes}")
    add = parser.add_argument
    add("paths", nargs="*", metavar="REF HYP", help="references, hypotheses")
    add("--ref", help="instead of REF")
    add("--hyp", help="instead of HYP")
    add("--mode", default="default", choices=list(MODES), help="unit, normalisation and points")
    units = ", ".join(UNITS)
    add(
        "--unit", nargs="+", metavar="UNIT", help=f"what a token is, instead of the mode's: {units}"
    )
    named = ", ".join(NORMALISATIONS).replace("%", "%%")
    add("--normalisation", nargs="+", metavar="NAME", help=f"of both sides, likewise: {named}")
    add("--poi", help="PIER's points, likewise: rest, han_kana or a script")
    add(
        "--output_dir",
        help="write score.json there; of further combinations of unit and normalisation "
        "score_<unit>_<normalisation>.json",
    )
    parser.renamed("--out", "--output_dir")
    add("--alignments", action="store_true", help="also write alignment.txt, utterances.csv there")
    add("--utt2spk", help="also rates by speaker (of a directory REF: its utt2spk)")
    add("--utt2lang", help="also rates by language (of a directory REF: its utt2lang)")
    add("--baseline", metavar="HYP2", help="compare with these hypotheses, in pairs")
    add(
        "--resample",
        default="auto",
        choices=list(RESAMPLE),
        help="independent units of intervals; auto: speakers where a set names 5 or more",
    )
    add(
        "--sclite",
        default="auto",
        help="compare totals with this sclite: a file, auto (if there is one) or none",
    )
    add(
        "--missing_as_empty", action="store_true", help="count a missing hypothesis as an empty one"
    )
    return parser


def work(args: argparse.Namespace) -> int:
    """Score, print and write."""
    sides = [args.ref, args.hyp] if args.ref and args.hyp else args.paths
    if len(sides) != 2 or (args.paths and (args.ref or args.hyp)):
        raise ValueError("give REF and HYP, or --ref and --hyp")
    if args.alignments and not args.output_dir:
        raise ValueError("--alignments needs --output_dir, the folder to write them to")

    # what is scored, and how
    modes = combinations(args.mode, args.unit, args.normalisation, args.poi)
    job = open_job(
        sides[0],
        sides[1],
        args.baseline,
        args.utt2spk,
        args.utt2lang,
        missing_as_empty=args.missing_as_empty,
        resample=args.resample,
        sclite=find_sclite(args.sclite),
    )
    data = text_of(sides[0]).absolute().parent.name
    problems: list[str] = []
    rows: list[tuple[str, SetScore]] = []
    for name, result in score_modes(job, modes, args.output_dir, args.alignments):
        problems += result.problems
        rows.append((f"{data}/{name}", result.score))
        sys.stdout.write("\n".join(lines_of(result)) + "\n")

    # all of them, and differences that nothing explains
    sys.stdout.write(f"\n{espnet_table(rows)}\n")
    for problem in problems:
        log.error("the scorers disagree: %s", problem)
    return 1 if problems else 0


main = program(get_parser, work)

if __name__ == "__main__":
    sys.exit(main())
