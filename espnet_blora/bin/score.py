"""Score hypotheses against references: Kaldi ``text`` files, or directories that hold one.

Example: ``python -m espnet_blora.bin.score data/test/text exp/asr_x/decode/test/text --out scored``
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_blora.data.kaldi import read_keyed
from espnet_blora.scoring import UNITS, Counts, SetScore, grouped, score
from espnet_blora.scoring.breakdown import as_json
from espnet_blora.scoring.errors import tokens_of
from espnet_blora.scoring.sclite import cross_check, find_sclite
from espnet_blora.text import NORMALISATIONS


def get_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m espnet_blora.bin.score",
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("paths", nargs="*", metavar="REF HYP", help="references, hypotheses")
    parser.add_argument("--ref", help="instead of REF")
    parser.add_argument("--hyp", help="instead of HYP")
    parser.add_argument("--unit", default="mer", choices=sorted(UNITS), help="what a token is")
    parser.add_argument(
        "--normalisation", default="basic", choices=sorted(NORMALISATIONS), help="of both sides"
    )
    parser.add_argument("--poi", default="rest", help="PIER's points: rest, han_kana or a script")
    parser.add_argument("--out", "--output_dir", dest="out", help="write score.json there")
    parser.add_argument("--utt2lang", help="also print rates by language")
    parser.add_argument(
        "--sclite",
        default="auto",
        help="compare totals with this sclite: a file, auto (if there is one), or none",
    )
    parser.add_argument(
        "--missing_as_empty", action="store_true", help="count a missing hypothesis as an empty one"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Score, print a summary, write ``score.json``; a user's mistake is one line and status 2."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    parser = get_parser()
    args = parser.parse_args(argv)
    given = [args.ref, args.hyp] if args.ref and args.hyp else args.paths
    if len(given) != 2 or (args.paths and (args.ref or args.hyp)):
        parser.error("give REF and HYP, or --ref and --hyp")
    ref, hyp = (Path(p) / "text" if Path(p).is_dir() else Path(p) for p in given)
    try:
        sides = read_keyed(ref), read_keyed(hyp)
        result = score(
            *sides,
            args.unit,
            args.normalisation,
            poi=args.poi,
            missing_as_empty=args.missing_as_empty,
        )
        languages = as_json(grouped(result, read_keyed(args.utt2lang))) if args.utt2lang else {}
        compared = compare_with_sclite(args.sclite, *sides, result)
        if args.out:
            extra = {"reference": str(ref), "hypothesis": str(hyp)}
            extra |= {"by_language": languages, "sclite": compared}
            result.save(Path(args.out) / "score.json", **extra)
    except (ValueError, OSError) as error:
        logging.error("%s and %s: %s", ref, hyp, error)
        return 2
    sys.stdout.write("\n".join([*summary(result, languages), *_sclite_lines(compared)]) + "\n")
    if compared.get("problems"):
        logging.error("sclite and we disagree: %s", "; ".join(compared["problems"]))
        return 3
    return 0


def compare_with_sclite(which: str, ref: dict, hyp: dict, result: SetScore) -> dict:
    """Return sclite's totals on the same tokens, or why there are none (``not_compared``)."""
    if which == "none":
        return {"not_compared": "not asked for"}
    tools = Path(__file__).resolve().parents[2] / "tools"
    if which == "auto":
        program = find_sclite([tools / "bin"], [tools / "sctk" / "bin"])
        if program is None:
            return {"not_compared": "no sclite here (make sclite)"}
    else:
        program = Path(which)
        if not program.is_file():
            raise FileNotFoundError(f"--sclite {which}: no such program")
    tokens = [tokens_of(side, result.unit, result.normalisation) for side in (ref, hyp)]
    try:
        totals, agreement = cross_check(program, *tokens, result.total)
    except (ValueError, RuntimeError) as error:
        return {"not_compared": str(error)}
    return {
        "utterances": totals.utterances,
        "tokens": totals.counts.tokens,
        "errors": totals.counts.errors,
        "extra_errors": agreement.extra_errors,
        "problems": list(agreement.problems),
    }


def _sclite_lines(compared: dict) -> list[str]:
    if "not_compared" in compared:
        return [f"  sclite: not compared: {compared['not_compared']}"]
    told = f"{compared['errors']} errors in {compared['tokens']} tokens"
    more = compared["extra_errors"]
    agrees = "as we" if not more and not compared["problems"] else f"{more} more than we"
    return [f"  sclite on the same tokens: {told}, {agrees}"]


def summary(result: SetScore, languages: dict[str, dict]) -> list[str]:
    """Return the lines the program prints."""
    lines = [
        f"{result.unit.upper()} {_percent(result.total)}, {len(result.utterances)} utterances, "
        f"{result.wrong_utterances} with an error",
        f"  normalisation {NORMALISATIONS[result.normalisation].describe()}",
    ]
    found = result.interval()
    if found:
        lines.append(f"  95 % interval {100 * found.low:.2f} to {100 * found.high:.2f} %")
    if result.unit == "mer":
        lines.append(f"  CER on Han and Kana {_percent(result.han_kana)}")
        lines.append(f"  WER on the rest     {_percent(result.rest)}")
        lines.append(f"  PIER                {_percent(result.pier)}")
    for language, row in languages.items():
        rate = "undefined" if row["rate"] is None else f"{100 * row['rate']:.2f} %"
        lines.append(f"  language {language}: {rate} of {row['tokens']} tokens")
    for what, ids in (
        ("empty references", result.empty_references),
        ("empty hypotheses", result.empty_hypotheses),
        ("missing hypotheses counted as empty", result.missing_as_empty),
    ):
        if ids:
            more = ", ..." if len(ids) > 5 else ""
            lines.append(f"  {what}: {len(ids)} ({', '.join(ids[:5])}{more})")
    return lines


def _percent(counts: Counts) -> str:
    if counts.rate is None:
        return f"undefined: no reference token ({counts.insertions} insertions)"
    return (
        f"{100 * counts.rate:.2f} % of {counts.tokens} tokens "
        f"(S {counts.substitutions}, D {counts.deletions}, I {counts.insertions})"
    )


if __name__ == "__main__":
    sys.exit(main())
