"""Score hypotheses against references: Kaldi `text` files, or directories that hold one.

Example: `python -m espnet_blora.bin.score data/test exp/asr_x/decode/test --unit mer wer --out o`
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_blora.scoring import UNITS
from espnet_blora.scoring.job import Job, run, save
from espnet_blora.scoring.modes import MODES, combinations
from espnet_blora.scoring.printed import lines_of
from espnet_blora.scoring.sclite import find_sclite
from espnet_blora.scoring.table import espnet_table
from espnet_blora.text import NORMALISATIONS
from espnet_blora.utils.keyed import KeyedText


def get_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m espnet_blora.bin.score",
        description=__doc__.splitlines()[0],
        epilog="modes: " + "; ".join(f"{name}: {mode.note}" for name, mode in MODES.items()),
    )
    add = parser.add_argument
    add("paths", nargs="*", metavar="REF HYP", help="references, hypotheses; before all options")
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
    add("--out", "--output_dir", dest="out", help="write score.json there; of further combinations "
        "of unit and normalisation score_<unit>_<normalisation>.json")  # fmt: skip
    add("--alignments", action="store_true", help="also write alignment.txt, utterances.csv there")
    add("--utt2spk", help="also rates by speaker (of a directory REF: its utt2spk)")
    add("--utt2lang", help="also rates by language (of a directory REF: its utt2lang)")
    add("--baseline", metavar="HYP2", help="compare with these hypotheses, in pairs")
    add("--resample", default="utterance", choices=["utterance", "speaker"],
        help="what intervals draw; utterances of one speaker are not independent")  # fmt: skip
    add("--sclite", default="auto",
        help="compare totals with this sclite: a file, auto (if there is one) or none")  # fmt: skip
    add(
        "--missing_as_empty", action="store_true", help="count a missing hypothesis as an empty one"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Score, print and write; a user's mistake is one line and status 2, totals of sclite's that
    nothing explains are status 3."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    parser = get_parser()
    args = parser.parse_args(argv)
    given = [args.ref, args.hyp] if args.ref and args.hyp else args.paths
    if len(given) != 2 or (args.paths and (args.ref or args.hyp)):
        parser.error("give REF and HYP before all options, or --ref and --hyp")
    if args.alignments and not args.out:
        parser.error("--alignments needs --out, the folder to write them to")
    ref, hyp = map(_text, given)
    problems, rows = [], []
    try:
        modes = combinations(args.mode, args.unit, args.normalisation, args.poi)
        job = _job(args, ref, hyp)
        paths = {"reference": str(ref), "hypothesis": str(hyp), "baseline": args.baseline}
        for mode in modes:
            result = run(job, mode)
            name = f"{mode.unit}_{mode.normalisation}"
            if args.out:
                stem = f"_{name}" if rows else ""
                result = save(job, result, args.out, stem, args.alignments, **paths)
            problems += result.sclite.get("problems", [])
            rows.append((f"{ref.absolute().parent.name}/{name}", result.score))
            sys.stdout.write("\n".join(lines_of(result)) + "\n")
    except (ValueError, OSError) as error:
        logging.error("%s and %s: %s", ref, hyp, error)
        return 2
    sys.stdout.write(f"\n{espnet_table(rows)}\n")
    if problems:
        logging.error("sclite and we disagree: %s", "; ".join(problems))
    return 3 if problems else 0


def _text(path: str) -> Path:
    return Path(path) / "text" if Path(path).is_dir() else Path(path)


def _job(args: argparse.Namespace, ref: Path, hyp: Path) -> Job:
    """Open what is to be scored; a directory REF brings its own speakers and languages."""
    groups = {}
    for name in ("utt2spk", "utt2lang"):
        path = getattr(args, name)
        beside = ref.with_name(name)
        if path is None and beside.is_file() and Path(args.ref or args.paths[0]).is_dir():
            path = beside
        groups[name] = None if path is None else KeyedText(path)
    sclite, why = _sclite(args.sclite)
    return Job(
        KeyedText(ref),
        KeyedText(hyp),
        KeyedText(_text(args.baseline)) if args.baseline else None,
        groups["utt2spk"],
        groups["utt2lang"],
        args.missing_as_empty,
        args.resample == "speaker",
        sclite,
        why,
    )


def _sclite(which: str) -> tuple[Path | None, str]:
    """Return the program to compare with, or None and why."""
    if which == "none":
        return None, "not asked for"
    if which != "auto":
        if not Path(which).is_file():
            raise FileNotFoundError(f"--sclite {which}: no such program")
        return Path(which), ""
    tools = Path(__file__).resolve().parents[2] / "tools"
    found = find_sclite([tools / "bin"], [tools / "sctk" / "bin"])
    return found, "no sclite here (make sclite)"


if __name__ == "__main__":
    sys.exit(main())
