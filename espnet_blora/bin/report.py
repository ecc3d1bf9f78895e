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

import espnet_blora
from espnet_blora.report.build import (
    Request,
    build,
    named_folders,
    other_scored_sets,
    parse_kappa,
)
from espnet_blora.report.collect import new_domain_sets
from espnet_blora.report.conditions import conditions
from espnet_blora.report.estimates import DEFAULT_KAPPA
from espnet_blora.scoring.intervals import RESAMPLE
from espnet_blora.utils.program import Parser, run_program

log = logging.getLogger(__name__)


def get_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser("report", __doc__)
    add = parser.add_argument
    add("experiments", nargs="*", help="folders in --exp (or paths), of any method; NAME stands "
        "for NAME_seed1, ... too; with these, --lora and --blora have no default")  # fmt: skip
    add("--exp", default="exp", help="folder of the experiments and the report")
    add("--dump", default="dump/raw", help="folder of the sets that were scored")
    add("--tag", default="", help="the names below end in _TAG, as run.sh's --tag or --whisper say")
    add("--base", help="experiment of the base model; without it asr_none")
    add("--lora", help="experiment with LoRA, or its seeds; without it asr_lora")
    add("--blora", help="experiment with BLoRA, or its seeds; without it asr_blora")
    add("--others", default="", help='more experiments: "asr_full asr_x"')
    add("--group", action="append", default=[], metavar="NAME=EXPERIMENTS", help="experiments that "
        'are seeds of one system: "asr_x=asr_x_a asr_x_b"; may be repeated')  # fmt: skip
    add("--labels", action="append", default=[], metavar="NAME=LABEL",
        help='what to call a system: "asr_x=LoRA rank 8"; may be repeated')  # fmt: skip
    add("--compare", default="", help='pairs of systems: "asr_blora:asr_lora asr_dama:asr_lora"; '
        "without it BLoRA with LoRA where both are there, else each adapted system with the "
        "first")  # fmt: skip
    add("--test_sets", default="", help='new-domain sets: "test_cs"; without it, those that run.sh '
        "scored as such")  # fmt: skip
    add("--retention_sets", help='what the base could do: "ret_en"; without it, all other sets '
        'that these experiments were scored on; "" for none, '
        "and the page says that forgetting was not measured")  # fmt: skip
    add("--inference_tag", default="decode", help="decoding folder")
    add("--kappa", default=str(100 * DEFAULT_KAPPA),
        help='degradation allowed by the gate, in points: "2", or "ret_en=1 ret_zh=3"')  # fmt: skip
    add("--resample", default="auto", choices=list(RESAMPLE),
        help="independent units of intervals; auto: speakers where there are 5")  # fmt: skip
    add("--no_audio", action="store_true", help="leave the sound of four utterances out of the "
        "page: a corpus's licence may forbid to hand it on")  # fmt: skip
    add("--conditions", action="store_true",
        help="only print machine, versions, date and revision, for a bug report")  # fmt: skip
    return parser


def work(args: argparse.Namespace, command: str) -> None:
    """Write the report, or print the conditions."""
    if args.conditions:
        for what, value in conditions(Path(espnet_blora.__file__).parent):
            sys.stdout.write(f"- {what}: {value}\n")
        return
    request = Request(
        exp=Path(args.exp),
        dump=Path(args.dump),
        test_sets=args.test_sets.split(),
        retention_sets=(args.retention_sets or "").split(),
        kappa={},
        roles={"base": args.base, "lora": args.lora, "blora": args.blora},
        others=args.others.split(),
        experiments=args.experiments,
        tag=args.tag,
        groups=args.group,
        labels=args.labels,
        compare=args.compare.split(),
        inference_tag=args.inference_tag,
        resample=args.resample,
        audio=not args.no_audio,
        command=command,
    )
    request.test_sets = request.test_sets or new_domain_sets(
        named_folders(request), args.inference_tag
    )
    if args.retention_sets is None or not request.test_sets:
        request.retention_sets = other_scored_sets(request)
    request.kappa = parse_kappa(args.kappa, request.retention_sets)
    files, missing = build(request)
    log.info("wrote %s", ", ".join(map(str, files)))
    if missing:
        log.warning("%d things are missing; retention.md's last but one section says", missing)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; see `utils.program` for its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    command = f"python -m espnet_blora.bin.report {shlex.join(words)}"
    return run_program(get_parser(), lambda args: work(args, command), words)


if __name__ == "__main__":
    sys.exit(main())
