"""Write exp/RESULTS.md, exp/retention.md and its plots from scored experiments.

What is missing (an experiment, sclite, a sweep) is said in the report; it is not an error.
"""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_blora.report.analysis import DEFAULT_KAPPA, analyse
from espnet_blora.report.collect import collect
from espnet_blora.report.plots import plot_bars, plot_scatter, plot_sparsity
from espnet_blora.report.results_md import results
from espnet_blora.report.retention_md import PLOTS, page


def get_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m espnet_blora.bin.report",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--exp", default="exp", help="folder of the experiments")
    parser.add_argument("--dump", default="dump/raw", help="folder of the sets that were scored")
    parser.add_argument(
        "--tag", default="", help="the names below end in _TAG, as run.sh's --tag or --whisper say"
    )
    parser.add_argument("--base", help="experiment of the base model [asr_none]")
    parser.add_argument("--lora", help="experiment with LoRA [asr_lora]")
    parser.add_argument("--blora", help="experiment with BLoRA [asr_blora]")
    parser.add_argument("--others", default="", help='more experiments: "asr_full asr_x"')
    parser.add_argument("--test_sets", required=True, help='new-domain sets: "test_cs"')
    parser.add_argument("--retention_sets", required=True, help='what the base could do: "ret_en"')
    parser.add_argument("--inference_tag", default="decode", help="decoding folder")
    parser.add_argument(
        "--kappa",
        default=str(100 * DEFAULT_KAPPA),
        help='degradation allowed by the gate, in points: "2", or "ret_en=1 ret_zh=3"',
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report; a user's mistake is one line and status 2."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    words = list(sys.argv[1:] if argv is None else argv)
    args = get_parser().parse_args(words)
    try:
        report(args, "python -m espnet_blora.bin.report " + shlex.join(words))
    except (ValueError, OSError) as error:
        logging.error("%s", error)
        return 2
    return 0


def report(args: argparse.Namespace, command: str) -> None:
    """Collect, analyse, draw and write.

    Raises: FileNotFoundError if ``--exp`` is no folder; ValueError for sets or kappas that make no
        sense.
    """
    exp, dump = Path(args.exp), Path(args.dump)
    if not exp.is_dir():
        raise FileNotFoundError(f"{exp}: no such folder; run the recipe first, or give --exp")
    test_sets, retention_sets = args.test_sets.split(), args.retention_sets.split()
    sets = [*test_sets, *retention_sets]
    if not test_sets or not retention_sets or len(set(sets)) != len(sets):
        raise ValueError(
            "--test_sets and --retention_sets need at least one set each, and none twice; found "
            f"{args.test_sets!r} and {args.retention_sets!r}"
        )
    kappa = parse_kappa(args.kappa, retention_sets)
    tag = f"_{args.tag}" if args.tag else ""
    roles = [
        (args.base or f"asr_none{tag}", "base"),
        (args.lora or f"asr_lora{tag}", "lora"),
        (args.blora or f"asr_blora{tag}", "blora"),
    ]
    roles += [(name, "other") for name in args.others.split()]
    experiments = [collect(exp / name, role, sets, args.inference_tag) for name, role in roles]
    found = analyse(experiments, test_sets, retention_sets, kappa)
    for name in sets:
        if not any((dump / place / "text").is_file() for place in (name, f"org/{name}")):
            found.notes.append(f"{dump / name / 'text'} is not there any more")
    drawn = [
        plot_scatter(exp / PLOTS[0], experiments, found),
        plot_bars(exp / PLOTS[1], experiments, found),
        plot_sparsity(exp / PLOTS[2], experiments),
    ]
    plots = [name for name, done in zip(PLOTS, drawn, strict=True) if done]
    for name in set(PLOTS) - set(plots):
        (exp / name).unlink(missing_ok=True)  # one of an earlier run would be believed
    (exp / "RESULTS.md").write_text(
        results(experiments, sets, exp, args.inference_tag), encoding="utf-8"
    )
    (exp / "retention.md").write_text(
        page(experiments, found, plots, exp, command), encoding="utf-8"
    )
    missing = sum(len(e.notes) for e in experiments) + len(found.notes)
    logging.info("wrote %s, %s and %s", exp / "RESULTS.md", exp / "retention.md", ", ".join(plots))
    if missing:
        logging.warning(
            "%d things are missing; the last section of retention.md names them", missing
        )


def parse_kappa(text: str, retention_sets: Sequence[str]) -> dict[str, float]:
    """Read ``2`` or ``ret_en=1 ret_zh=3`` (points) as {set: rate}.

    Raises: ValueError for anything else, a set that is left out, or a kappa that is not > 0.
    """
    try:
        if "=" in text:
            pairs = dict(word.split("=", 1) for word in text.split())
            found = {name: float(pairs.pop(name)) / 100 for name in retention_sets}
            if pairs:
                raise ValueError(f"no retention set is called {', '.join(pairs)}")
        else:
            found = dict.fromkeys(retention_sets, float(text) / 100)
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"--kappa {text!r}: give one number, or name=number for each of "
            f"{', '.join(retention_sets)} ({error})"
        ) from error
    if min(found.values()) <= 0:
        raise ValueError(f"--kappa {text!r}: the degradation allowed must be > 0")
    return found


if __name__ == "__main__":
    sys.exit(main())
