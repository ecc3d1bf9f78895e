"""Repair what was trained, without training: less change on old audio, most of it on new audio.

Each Linear's update is moved, in closed form, to the best trade between what it does on new-domain
inputs (--new) and what it does on old ones (--keep); both are files of `espnet-blora moments`. What
every strength is predicted to do is printed; for those of --strength the checkpoint
ASR_EXP/repaired_mu<STRENGTH>.pth is written, which stands for the trained one: `transcribe
--model_file`, stage 12 (`run.sh --repair`). `sweep --repair` measures strengths. Where all weights
were trained, every Linear is repaired, and the rest is turned down to 1 / (1 + mu).
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_blora.bin._common import add_model, numbers, open_recogniser
from espnet_blora.utils.program import Parser, program

if TYPE_CHECKING:  # torch is imported when the program runs
    from espnet_blora.adapters.repair import Change

STRENGTHS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
log = logging.getLogger(__name__)


def get_parser() -> Parser:
    """Return the options, each with its default."""
    parser = Parser("repair", __doc__)
    add_model(parser)
    add = parser.add_argument
    add("--keep", type=Path, required=True, help="moments of old audio, heard by the base")
    add("--new", type=Path, required=True, help="moments of new-domain audio (moments --adapted)")
    add("--strength", help="strengths to write, blanks between (default: only print the table)")
    return parser


def repair(args: argparse.Namespace) -> None:
    """Print what strengths are predicted to do, and write the checkpoints that are asked for.

    Raises:
        FileNotFoundError: The experiment or a file of moments is not there.
        ValueError: The adapter cannot be repaired, or a file does not fit.
    """
    from espnet_blora.adapters.repair import alike
    from espnet_blora.decoding.recogniser import base_state
    from espnet_blora.decoding.scaling import open_repair, write_repaired
    from espnet_blora.decoding.training_config import find_checkpoint
    from espnet_blora.utils import atomic

    wanted = numbers(args.strength, "--strength") if args.strength else []
    recogniser = open_recogniser(args, merge=False, packed=False)
    base = None if recogniser.adapter else base_state(args.asr_exp, args.whisper)
    work = open_repair(recogniser, args.keep, args.new, base)
    curve = work.curve(sorted({*STRENGTHS, *wanted}))
    sys.stdout.write(table(curve))
    if alike(curve):
        log.warning(
            "old and new inputs are so alike that a repair keeps hardly more than the scale, which "
            "costs nothing: use --adapter_scale"
        )
    checkpoint = find_checkpoint(args.asr_exp, args.model_file)
    for strength in wanted:
        output = args.asr_exp / f"repaired_mu{strength:g}.pth"
        write_repaired(checkpoint, output, work, strength)
        about = {"checkpoint": checkpoint.name, "keep": str(args.keep), "new": str(args.new)}
        row = next(row for row in curve if row.strength == strength)
        text = json.dumps({**about, **row._asdict()}, indent=1)
        atomic.write(output.with_suffix(".json"), text + "\n")
        log.info("wrote %s", output)


def table(curve: list[Change]) -> str:
    """Return the predicted curve: percent of what the adapter as trained does."""
    whole = curve[0].old or 1.0  # at strength 0
    lines = ["strength  change on old  lost on new  change on old of the scale that loses as much"]
    lines += [
        f"{row.strength:>8g}  {row.old / whole:>13.1%}  {row.lost:>11.1%}  "
        f"{row.old_by_scale / whole:>45.1%}"
        for row in curve
    ]
    return "\n".join(lines) + "\n"


main = program(get_parser, repair)

if __name__ == "__main__":
    sys.exit(main())
