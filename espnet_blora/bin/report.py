"""Write RESULTS.md, retention.md, .html, .csv and plots from scored experiments.

Any number of experiments; NAME_seed1, NAME_seed2, ... are one system. What is missing (an
experiment, sclite, a sweep) is said in the report; it is not an error.
"""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_blora.report.build import Request, build, parse_kappa
from espnet_blora.report.estimates import DEFAULT_KAPPA


def get_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m espnet_blora.bin.report",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "experiments",
        nargs="*",
        help="folders in --exp (or paths), of any method; NAME stands for NAME_seed1, ... too; "
        "with these, --lora and --blora have no default",
    )
    parser.add_argument("--exp", default="exp", help="folder of the experiments and the report")
    parser.add_argument("--dump", default="dump/raw", help="folder of the sets that were scored")
    parser.add_argument(
        "--tag", default="", help="the names below end in _TAG, as run.sh's --tag or --whisper say"
    )
    parser.add_argument("--base", help="experiment of the base model [asr_none]")
    parser.add_argument("--lora", help="experiment with LoRA, or its seeds [asr_lora]")
    parser.add_argument("--blora", help="experiment with BLoRA, or its seeds [asr_blora]")
    parser.add_argument("--others", default="", help='more experiments: "asr_full asr_x"')
    parser.add_argument(
        "--group",
        action="append",
        default=[],
        metavar="NAME=EXPERIMENTS",
        help='experiments that are seeds of one system: "asr_x=asr_x_a asr_x_b"; may be repeated',
    )
    parser.add_argument(
        "--labels",
        action="append",
        default=[],
        metavar="NAME=LABEL",
        help='what to call a system: "asr_x=LoRA rank 8"; may be repeated',
    )
    parser.add_argument(
        "--compare",
        default="",
        help='pairs of systems: "asr_blora:asr_lora asr_dama:asr_lora" [BLoRA with LoRA where both '
        "are there, else each adapted system with the first]",
    )
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
    args = get_parser().parse_intermixed_args(words)
    try:
        test_sets, retention_sets = args.test_sets.split(), args.retention_sets.split()
        wanted = Request(
            exp=Path(args.exp),
            dump=Path(args.dump),
            test_sets=test_sets,
            retention_sets=retention_sets,
            kappa=parse_kappa(args.kappa, retention_sets),
            roles={"base": args.base, "lora": args.lora, "blora": args.blora},
            others=args.others.split(),
            experiments=args.experiments,
            tag=args.tag,
            groups=args.group,
            labels=args.labels,
            compare=args.compare.split(),
            inference_tag=args.inference_tag,
            command=f"python -m espnet_blora.bin.report {shlex.join(words)}",
        )
        made, missing = build(wanted)
    except (ValueError, OSError) as error:
        logging.error("%s", error)
        return 2
    logging.info("wrote %s", ", ".join(map(str, made)))
    if missing:
        logging.warning("%d things are missing; retention.md's last but one section says", missing)
    return 0


if __name__ == "__main__":
    sys.exit(main())
