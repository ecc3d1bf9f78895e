"""Score the decoded sets of an experiment: stage 13 of a recipe.

Writes, per set, sclite's tables of words, characters and mixed tokens
(`score_{wer,cer,mer}/{ref.trn,hyp.trn,result.txt}`) and our own figures
(`score_blora/score.json`), and compares sclite, jiwer and ourselves. Status 1: the scorers differ
and nothing explains it.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from espnet_blora.bin._common import add_sets, set_names
from espnet_blora.scoring.experiment import Stage, read_symbols, score_set
from espnet_blora.scoring.modes import MODES, combinations
from espnet_blora.scoring.output import espnet_table
from espnet_blora.scoring.sclite import Reading, find_sclite
from espnet_blora.utils.program import Parser, program

log = logging.getLogger(__name__)


def get_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser("score_experiment", __doc__)
    add = parser.add_argument
    add("--asr_exp", type=Path, required=True, help="folder of the experiment")
    add("--inference_tag", default="decode", help="name of the decoding: a folder of the former")
    add("--dump", type=Path, default=Path("dump/raw"), help="folder of the sets' data directories")
    add_sets(parser)
    add("--mode", default="default", choices=list(MODES), help="of our figures, as in score")
    add(
        "--score_opts",
        default="-e utf-8 -c NOASCII",
        metavar="OPTIONS",
        help="of sclite, for the tables of words and characters",
    )
    add("--nlsyms_txt", metavar="FILE", help="symbols that are one character, one per line")
    add("--sclite", default="auto", help="a file, auto (if there is one) or none")
    return parser


def work(args: argparse.Namespace) -> int:
    """Score every set, print and write; a set's mistake does not stop the others."""
    sclite = find_sclite(args.sclite)
    stage = Stage(
        args.asr_exp,
        args.inference_tag,
        args.dump,
        combinations(args.mode),
        Reading.parse(args.score_opts),
        read_symbols(args.nlsyms_txt if args.nlsyms_txt != "none" else None),
        sclite,
    )
    if sclite[0] is None:
        log.warning("sclite's tables will say 'not scored': %s", sclite[1])
    outcomes = []
    for name in set_names(args.sets):
        outcomes.append(score_set(stage, name))
        sys.stdout.writelines(f"{line}\n" for line in outcomes[-1].lines)
    sys.stdout.write(f"\n{espnet_table(row for o in outcomes for row in o.scores.items())}\n")
    problems = [problem for outcome in outcomes for problem in outcome.problems]
    for problem in problems:
        log.error("%s", problem)
    if mistakes := [outcome.mistake for outcome in outcomes if outcome.mistake]:
        raise ValueError("; ".join(mistakes))
    return 1 if problems else 0


main = program(get_parser, work)

if __name__ == "__main__":
    sys.exit(main())
