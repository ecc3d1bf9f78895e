"""Choose mini_cs's settings: each through ESPnet's stage 11, judged on validation sets.

Each setting is trained with every seed by the recipe's own run.sh, then decoded at several adapter
scales on valid_cs (new domain), valid_en and valid_zh (what the base could do); no test set is
decoded. Prints a Markdown table; raw figures go to OUT. The shipped defaults come from GRID with
seed 1 (and LoRA with lr 3e-3, and with dropout 0.1), then the chosen setting of each method (a JSON
like GRID, --grid) with seeds 2 and 3.

    python3 benchmarks/tune_mini_cs.py --seeds 1 --jobs 2 --out exp_tune/tune.json
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shlex
import statistics
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

RECIPE = Path(__file__).resolve().parents[1] / "egs2" / "mini_cs" / "asr1"
SETS = "valid_cs valid_en valid_zh"
GRID = {
    "lora": {"optim_conf.lr": [3e-4, 1e-3]},
    "blora": {
        "optim_conf.lr": [1e-3],
        "adapter_conf.beta": [0.005, 0.02],
        "adapter_conf.prior_std": [0.01, 0.05],
    },
}


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=2, help="trainings at once, one thread each")
    parser.add_argument("--grid", type=Path, help="JSON of the form of GRID instead of GRID")
    parser.add_argument("--scales", default="0 0.5 0.7 0.85 1", help="adapter scales at decoding")
    parser.add_argument("--expdir", default="exp_tune", help="inside the recipe's folder")
    parser.add_argument("--out", type=Path, default=RECIPE / "exp_tune" / "tune.json")
    return parser


def settings(grid: dict) -> list[tuple[str, dict]]:
    """Every combination: (adapter, overrides)."""
    return [
        (adapter, dict(zip(axes, values, strict=True)))
        for adapter, axes in grid.items()
        for values in itertools.product(*axes.values())
    ]


def call(command: str, log: Path, threads: int = 1) -> None:
    """Run a shell command in the recipe's folder; its output goes to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "ESPNET_BLORA_THREADS": str(threads), "OMP_NUM_THREADS": "1"}
    with log.open("w") as out:
        code = subprocess.run(
            ["bash", "-c", command], cwd=RECIPE, env=environment, stdout=out, stderr=out
        ).returncode
    if code:
        raise RuntimeError(f"status {code}: {command}; see {log}")


def name_of(adapter: str, overrides: dict, seed: int) -> str:
    """A folder name that tells the setting."""
    words = [f"{k.split('.')[-1]}={v}" for k, v in overrides.items()]
    text = "_".join([*words, f"seed{seed}"])
    for old, new in (("[", ""), ("]", ""), (",", "-"), ("target_modules", "at")):
        text = text.replace(old, new)
    return f"{adapter}_{text}"


def train_and_sweep(job: tuple[str, dict, int], args: argparse.Namespace) -> dict:
    """One training and its sweep; skipped where the figures are there already."""
    adapter, overrides, seed = job
    tag = name_of(adapter, overrides, seed).split("_", 1)[1]
    folder = RECIPE / args.expdir / f"asr_{adapter}_{tag}"
    logs = RECIPE / args.expdir / "logs"
    began = time.monotonic()
    if not (folder / "scale_sweep.json").is_file():
        sets = "".join(f" --set {shlex.quote(f'{k}={v}')}" for k, v in overrides.items())
        call(
            f"./run.sh --adapter {adapter} --stage 11 --stop_stage 11 --expdir {args.expdir} "
            f"--tag {shlex.quote(tag)} --set seed={seed}{sets}",
            logs / f"{folder.name}.train.log",
        )
        call(
            f". ./path.sh && python3 -m espnet_blora.bin.sweep --asr_exp "
            f"{shlex.quote(str(folder))} "
            f"--inference_config conf/decode.yaml --sets '{SETS}' "
            f"--scales '{args.scales}' --threads 1",
            logs / f"{folder.name}.sweep.log",
        )
    print(f"{folder.name}: {time.monotonic() - began:.0f} s", flush=True)
    rows = json.loads((folder / "scale_sweep.json").read_text())
    return {"adapter": adapter, "overrides": overrides, "seed": seed, "rows": rows}


def table(results: list[dict]) -> str:
    """Markdown: a line a setting and scale, mean and standard deviation over seeds, per cent."""
    grouped: dict[tuple, dict[str, list[float]]] = {}
    for result in results:
        setting = " ".join(f"{k.split('.')[-1]}={v}" for k, v in result["overrides"].items())
        for row in result["rows"]:
            key = (result["adapter"], setting, row["scale"])
            grouped.setdefault(key, {}).setdefault(row["set"], []).append(100 * row["rate"])
    lines = [
        "| adapter | setting | scale | " + " | ".join(f"{s} MER" for s in SETS.split()) + " |",
        "|---" * (3 + len(SETS.split())) + "|",
    ]
    for (adapter, setting, scale), rates in sorted(grouped.items()):
        cells = []
        for name in SETS.split():
            values = rates[name]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.mean(values):.1f} ± {spread:.1f}")
        lines.append(f"| {adapter} | {setting} | {scale:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    args = get_parser().parse_args()
    grid = json.loads(args.grid.read_text()) if args.grid else GRID
    prepare = (
        f"./run.sh --adapter lora --stage 1 --stop_stage 10 --expdir {args.expdir} "
        f"--test_sets valid_cs --retention_sets 'valid_en valid_zh'"
    )
    if not (RECIPE / args.expdir / "asr_stats" / "train" / "speech_shape").is_file():
        call(prepare, RECIPE / args.expdir / "logs" / "prepare.log", 2)
    jobs = [(*setting, seed) for seed in args.seeds for setting in settings(grid)]
    print(f"{len(jobs)} trainings, {args.jobs} at once", flush=True)
    with ThreadPoolExecutor(args.jobs) as pool:
        results = list(pool.map(lambda job: train_and_sweep(job, args), jobs))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(results, indent=1))
    print(table(results))


if __name__ == "__main__":
    main()
