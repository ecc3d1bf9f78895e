"""The protocol of retention: who forgets least at the same error on a bed's new domain?

`run` trains the settings of a plan on a bed (a recipe's data/, made by its stage 1), scores each
over its knob on validation and final sets, and writes one JSON a run under the recipe's results/.
What is there is not run again, and several processes of one thread may run side by side: each takes
the next run that nobody has. `table` reads the JSON files and prints the comparison.

    python3 benchmarks/retention.py run egs2/mini_noisy/asr1 --seeds 0 1 2
    python3 benchmarks/retention.py table egs2/mini_noisy/asr1
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="train and score what is not there yet")
    table = commands.add_parser("table", help="print the comparison")
    for command in (run, table):
        command.add_argument("recipe", type=Path, help="such as egs2/mini_noisy/asr1")
        command.add_argument("--plan", type=Path, default=ROOT / "benchmarks" / "retention.yaml")
        command.add_argument("--methods", nargs="+", help="of the plan (default: all)")
        command.add_argument("--results", type=Path, help="default: RECIPE/results")
    table.add_argument("--valid", action="store_true", help="all settings, on the validation sets")
    table.add_argument("--plot", type=Path, help="and draw the curves on the final sets")
    base = ROOT / "egs2/mini_cs/asr1/base/tiny_mini_cs.safetensors"
    run.add_argument("--base", type=Path, default=base)
    run.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    run.add_argument("--work", type=Path, help="default: RECIPE/exp/retention")
    run.add_argument("--full_table", action="store_true", help="all tokens of Whisper")
    run.add_argument("--epochs", type=int, default=7)
    run.add_argument("--knobs", type=float, nargs="+", help="scales of the update, rising")
    run.add_argument("--utterances", type=int, help="of each set at most, to try it out")
    sets = run.add_mutually_exclusive_group()
    sets.add_argument("--valid_only", action="store_true", help="leave the final sets alone")
    sets.add_argument("--final_only", action="store_true", help="the choice has been made")
    run.add_argument("--chosen", action="store_true", help="only what validation chooses")
    run.add_argument("--runs", type=int, help="stop after so many")
    return parser


def run(args: argparse.Namespace) -> None:
    """Make what is missing, seed by seed."""
    import torch
    from keeping.bed import Bed
    from keeping.runs import KNOBS, Runs, Sets, read_plan
    from keeping.table import chosen_names

    torch.set_num_threads(1)
    os.chdir(args.recipe)  # audio is named from there
    plan = read_plan(args.plan)
    settings = [setting for method in args.methods or plan for setting in plan[method]]
    if args.chosen:
        best = chosen_names(args.results)
        settings = [setting for setting in settings if setting.name in best]
    sets = Sets(args.recipe.parent.name.partition("_")[2])
    old = dict.fromkeys(setting.old for setting in settings if setting.old)
    names = [sets.train, *sets.valid, *sets.final, *old]
    bed = Bed(Path("data"), args.base, names, not args.full_table, args.utterances)
    work = (args.work or args.recipe / "exp" / "retention").resolve()
    runs = Runs(bed, sets, args.results, work, args.epochs, args.knobs or KNOBS)
    made = 0
    wanted = [
        *([] if args.final_only else sets.valid),
        *([] if args.valid_only else sets.final),
    ]
    for setting, seed in [(None, 0), *((s, seed) for seed in args.seeds for s in settings)]:
        if args.runs is not None and made >= args.runs:
            break
        began = time.monotonic()
        if runs.run(setting, seed, wanted):
            made += 1
            print(f"{runs.path(setting, seed)}: {time.monotonic() - began:.0f} s", flush=True)


def main() -> None:
    args = get_parser().parse_args()
    for name in ("recipe", "plan", "base"):
        if hasattr(args, name):
            setattr(args, name, getattr(args, name).resolve())
    args.results = (args.results or args.recipe / "results").resolve()
    if args.command == "run":
        run(args)
        return
    from keeping.table import choice, plot, table

    if args.plot:
        plot(args.results, args.plot)
    sys.stdout.write((choice if args.valid else table)(args.results))


if __name__ == "__main__":
    main()
