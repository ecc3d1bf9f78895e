"""Write a Hugging Face model card of a scored experiment: results, forgetting, how to load it.

The figures are those of `espnet-blora report`, on the same sets and beside the same base. Put the
card into the folder of `espnet-blora export EXP FOLDER --to hf` with --output FOLDER/README.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from espnet_blora.report.build import Request
from espnet_blora.report.card import Words, analysed, card
from espnet_blora.utils import atomic
from espnet_blora.utils.program import Parser, program


def get_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser("card", __doc__)
    add = parser.add_argument
    add("asr_exp", type=Path, help="the experiment; NAME stands for NAME_seed1, ... too")
    add("--license", required=True, help="of the weights, in Hugging Face's words: apache-2.0, "
        "mit, cc-by-4.0, other; your data may decide it")  # fmt: skip
    add("--test_sets", default="", help="new-domain sets; needed")
    add("--retention_sets", help="what the base could do; without it, all other scored sets")
    add("--base", help="experiment of the base (default: asr_none with the same ending)")
    add("--base_model", help="the base's name on the hub (default: openai/whisper-SIZE)")
    add("--repo", help="the model's name on the hub (default: the experiment's)")
    add("--title", help="the card's title (default: the last part of --repo)")
    add("--inference_tag", default="decode", help="decoding folder")
    add("--output", type=Path, help="the card (default: README.md in the experiment)")
    return parser


def work(args: argparse.Namespace) -> None:
    """Write the card."""
    analysis, system = analysed(
        Request(
            exp=args.asr_exp.parent,
            dump=Path(),
            test_sets=args.test_sets.split(),
            retention_sets=(args.retention_sets or "").split(),
            kappa={},
            roles={"base": args.base},
            experiments=[args.asr_exp.name],
            inference_tag=args.inference_tag,
        ),
        all_others=args.retention_sets is None,
    )
    base = args.base_model
    if base is None:
        from espnet_blora.whisper.checkpoint import hub_name  # torch: slow

        base = hub_name((system.runs[0].config.get("encoder_conf") or {}).get("whisper_model"))
    repo = args.repo or args.asr_exp.name
    words = Words(args.title or repo.rpartition("/")[2], repo, args.license, base)
    output = args.output or system.runs[0].folder / "README.md"
    atomic.write(output, card(analysis, system, words))
    sys.stdout.write(f"{output}\n")


main = program(get_parser, work)

if __name__ == "__main__":
    sys.exit(main())
