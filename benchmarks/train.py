"""Speed and memory of whole trainings: ours, HF Trainer with PEFT, and ESPnet's own Whisper.

Every program trains LoRA of one rank on one Whisper, with the same utterances, targets, batch size,
epochs, optimiser, validations, checkpoints and curves, and starts as its users start it:

* ours: the launcher and ESPnet's trainer, with mini_cs's settings, padded to the batch or to 30 s;
* HF: `Trainer` and PEFT's LoRA, features computed first; in Whisper's window of 30 s, as its users
  have it, and in the smallest window that its encoder takes for this corpus: the longest utterance;
* ESPnet alone: its own Whisper with loralib's LoRA, padded to the batch, its prompt in the loss.
  openai-whisper has dropped a constant that ESPnet imports; it is put back here.

The weights are mini_cs's base, or random ones of a published size. Programs are run in turn, and
ratios are those of one round. Steady state is the last epoch from its first to its last step, in
processor seconds on a CPU (loader processes left out), in wall time on a GPU. `whole` is the
program from start to end, with its children; `start` is until the first step is done.

loralib is not in the environment: `pip install --target DIR loralib` and `--peers DIR`.

    cd egs2/mini_cs/asr1 && ./run.sh --stop_stage 4; cd ../../..
    python3 benchmarks/train.py --quick
    python3 benchmarks/train.py --rounds 3 --out train.md
    python3 benchmarks/train.py --device cuda --sizes mini_cs:600:16 large-v3-turbo:256:8
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import soundfile
import torch
import yaml
from peers.convert import to_hf, write_random

from espnet_blora.bin.make_config import load, merge
from espnet_blora.report.conditions import cpu, now, revision, version
from espnet_blora.utils.keyed import read_keyed
from espnet_blora.whisper.checkpoint import load_whisper
from espnet_blora.whisper.sizes import PUBLISHED, dims_of
from espnet_blora.whisper.vocabulary import Vocabulary

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "egs2/mini_cs/asr1"
BASE = RECIPE / "base/tiny_mini_cs.safetensors"
TRAINERS = ROOT / "benchmarks/peers/trainers.py"
PACKAGES = ("torch", "espnet", "openai-whisper", "transformers", "peft", "accelerate")
HF_30S, HF_LEAST = "HF, 30 s", "HF, smallest window"
SYSTEMS = {
    "ours, batch": ("lora", "batch"),
    "ours, 30 s": ("lora", "30s"),
    "ours, blora, batch": ("blora", "batch"),
    HF_30S: ("hf", "30s"),
    HF_LEAST: ("hf", "least"),
    "ESPnet alone, batch": ("stock", "batch"),
}
HF_TARGETS = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
SIZES = {
    "cpu": ["mini_cs:600:16", "tiny:48:4", "base:24:4"],
    "cuda": ["mini_cs:600:16", "small:256:8", "large-v3-turbo:128:8", "large-v2:64:4"],
}


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=RECIPE / "dump/raw", help="has train_cs ...")
    parser.add_argument(
        "--sizes", nargs="+", metavar="SIZE:UTTERANCES:BATCH", help=f"default: {SIZES}"
    )
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--peers", type=Path, help="where pip has put loralib (--target)")
    parser.add_argument("--out", type=Path, help="also write FILE, and FILE with .json")
    parser.add_argument("--quick", action="store_true", help="only to see that it works")
    return parser


@dataclass
class Case:
    """One Whisper, what it is trained on, and where its files lie."""

    name: str
    whisper: str
    folder: Path
    batch: int
    seconds: float
    """Of audio in an epoch."""
    tokens: int
    """Of text in an epoch, with each end of text."""
    longest: int
    """Samples."""


def lay_out(args: argparse.Namespace, size: str, box: Path) -> Case:
    """Write the Whisper and the sets as each program reads them."""
    name, count, batch = size.split(":")
    folder = box / name
    folder.mkdir()
    whisper = str(BASE)
    if name != "mini_cs":
        whisper = str(folder / "whisper.pt")
        write_random(name, whisper)
    model = load_whisper(whisper)
    to_hf(model).save_pretrained(folder / "hf")
    vocabulary = Vocabulary.of(model.dims.n_vocab)
    (folder / "tokens.txt").write_text(
        "".join(f"{token}\n" for token in vocabulary.token_list()), encoding="utf-8"
    )
    totals = {}
    for part, most in (("train", int(count)), ("valid", min(150, max(4, int(count) // 4)))):
        totals[part] = write_set(args.data / f"{part}_cs", folder / part, most, vocabulary)
    return Case(name, whisper, folder, int(batch), *totals["train"])


def write_set(source: Path, folder: Path, most: int, vocabulary: Vocabulary) -> tuple:
    """Write a Kaldi data directory and HF's rows; returns seconds, tokens, longest in samples."""
    places, texts, languages = (read_keyed(source / f) for f in ("wav.scp", "text", "utt2lang"))
    ids = sorted(places)
    ids = ids[:: max(1, len(ids) // most)][:most]
    lines: dict[str, list[str]] = {
        name: [] for name in ("wav.scp", "text", "utt2lang", "speech_shape", "ids")
    }
    rows, samples = [], []
    for uid in ids:
        wave = Path(places[uid])
        wave = wave if wave.is_absolute() else RECIPE / wave
        samples.append(soundfile.info(wave).frames)
        prompt, text = vocabulary.prompt(languages[uid]), vocabulary.encode(texts[uid])
        rows.append({"wave": str(wave), "ids": [*prompt, *text], "prompt": len(prompt)})
        after = " ".join(map(str, [*prompt[1:], *text]))
        values = (wave, texts[uid], languages[uid], samples[-1], after)
        for table, value in zip(lines.values(), values, strict=True):
            table.append(f"{uid} {value}\n")
    folder.mkdir()
    for name, table in lines.items():
        (folder / name).write_text("".join(table), encoding="utf-8")
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    tokens = sum(len(row["ids"]) - row["prompt"] + 1 for row in rows)
    return sum(samples) / 16000, tokens, max(samples)


# ---- the programs --------------------------------------------------------------------------------


def command(args: argparse.Namespace, case: Case, system: str, exp: Path) -> list[str]:
    """Write a program's settings and return its command line."""
    method, window = SYSTEMS[system]
    clock = str(exp / "clock.json")
    if method == "hf":
        place = exp / "settings.json"
        place.write_text(json.dumps(hf_settings(args, case, window, exp)))
        return [sys.executable, str(TRAINERS), clock, "hf", str(place)]
    adapter = "lora" if method == "stock" else method
    config = merge(
        load(RECIPE / "conf/train.yaml"),
        load(RECIPE / f"conf/adapter_{adapter}.yaml"),
        {
            "adapter_conf": {"rank": args.rank, "alpha": 2 * args.rank},
            "encoder_conf": {"pad_to": window},
            "model_conf": {"lsm_weight": 0.0},
            "batch_size": case.batch,
            "max_epoch": args.epochs,
            "use_amp": args.device == "cuda",
        },
    )
    kind = ("text", "text")
    head = ["-m", "espnet_blora.run", "--whisper", case.whisper, str(TRAINERS), clock, "espnet"]
    if method == "stock":
        head, kind = [str(TRAINERS), clock, "stock", case.whisper], ("ids", "text_int")
        config["use_preprocessor"] = False
        config["encoder_conf"] = config["decoder_conf"] = {"whisper_model": case.whisper}
        names = config["adapter_conf"]["target_modules"]  # ends of names there: out, but no dropout
        config["adapter_conf"]["target_modules"] = [f".{name}" for name in names]
        del config["model_conf"]["extract_feats_in_collect_stats"]
    (exp / "train.yaml").write_text(yaml.safe_dump(config))
    words = [
        *head, "--config", str(exp / "train.yaml"), "--output_dir", str(exp / "exp"),
        "--token_list", str(case.folder / "tokens.txt"), "--token_type", "whisper_multilingual",
        "--bpemodel", "whisper_multilingual", "--ngpu", str(int(args.device == "cuda")),
    ]  # fmt: skip
    for part in ("train", "valid"):
        folder = case.folder / part
        names = f"--{part}_data_path_and_name_and_type"
        words += [names, f"{folder}/wav.scp,speech,sound"]
        words += [names, f"{folder}/{kind[0]},text,{kind[1]}"]
        words += [f"--{part}_shape_file", f"{folder}/speech_shape"]
    return [sys.executable, *words]


def hf_settings(args: argparse.Namespace, case: Case, window: str, exp: Path) -> dict:
    """Return what `trainers.hf` needs: mini_cs's settings in HF's words."""
    samples = 30 * 16000 if window == "30s" else -(-case.longest // 320) * 320
    dims = dims_of(case.whisper)
    return {
        "model": str(case.folder / "hf"), "train": str(case.folder / "train"),
        "valid": str(case.folder / "valid"), "samples": samples, "n_mels": dims.n_mels,
        "pad": Vocabulary.of(dims.n_vocab).eot,
        "lora": {"r": args.rank, "lora_alpha": 2 * args.rank, "target_modules": HF_TARGETS},
        "output_dir": str(exp), "num_train_epochs": args.epochs, "learning_rate": 1e-3,
        "lr_scheduler_type": "constant_with_warmup", "warmup_steps": 40, "max_grad_norm": 1.0,
        "per_device_train_batch_size": case.batch, "per_device_eval_batch_size": case.batch,
        "weight_decay": 0.0, "logging_steps": 10, "eval_strategy": "epoch",
        "save_strategy": "epoch", "report_to": "tensorboard", "disable_tqdm": True,
        "dataloader_num_workers": 1, "remove_unused_columns": False, "label_names": ["labels"],
        "use_cpu": args.device == "cpu", "bf16": args.device == "cuda", "seed": 0,
    }  # fmt: skip


def run(args: argparse.Namespace, case: Case, system: str, exp: Path) -> dict:
    """Run one program; returns seconds, MB and losses, or {"missing": why}."""
    exp.mkdir(parents=True)
    paths = [str(ROOT), os.environ.get("PYTHONPATH", ""), str(args.peers or "")]
    environment = os.environ | {
        "OMP_NUM_THREADS": str(args.threads),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    words = command(args, case, system, exp)
    began = time.time()
    with (exp / "log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.time() - began
    if status:
        said = (exp / "log").read_text("utf-8", "replace").strip().splitlines()
        return {"missing": f"status {process.returncode}: {said[-1] if said else ''}"}
    clock = json.loads((exp / "clock.json").read_text())
    steps = len(clock["steps"]) // args.epochs  # of an epoch
    first, last = clock["steps"][-steps], clock["steps"][-1]
    cuda = args.device == "cuda"
    if (place := exp / "exp/checkpoint.pth").is_file():
        stats = torch.load(place, map_location="cpu")["reporter"]["stats"]
        clock["valid_loss"] = stats[args.epochs]["valid"]["loss"]
    return {
        "start": clock["steps"][0][0] - began if cuda else clock["steps"][0][1],
        "whole": wall if cuda else usage.ru_utime + usage.ru_stime,
        "wall": wall,
        "epoch": (last[not cuda] - first[not cuda]) * steps / (steps - 1),
        "peak": clock["gpu"] / 1e6 if cuda else usage.ru_maxrss / 1e3,
        "valid_loss": clock["valid_loss"],
    }


# ---- the table -----------------------------------------------------------------------------------


def table(args: argparse.Namespace, case: Case, found: dict[str, list[dict]]) -> str:
    """Return one Whisper's rows: medians, and ratios of the same round to each of HF's."""
    lines = [
        f"| {case.name}, batch {case.batch} | audio s a s, whole | steady | tokens a s, steady | "
        "start, s | whole, s | peak, MB | valid loss | x HF 30 s: whole, steady | "
        "x HF smallest: whole, steady |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]

    def middle(system: str, key: str) -> float:
        return statistics.median(one[key] for one in found[system])

    def times(system: str, other: str) -> str:
        if not found.get(other) or "missing" in found[other][0]:
            return ""
        pairs = list(zip(found[system], found[other], strict=True))
        return ", ".join(
            f"{statistics.median(its[key] / mine[key] for mine, its in pairs):.2f}"
            for key in ("whole", "epoch")
        )

    for system, rounds in found.items():
        if "missing" in rounds[0]:
            lines.append(f"| {system} | {rounds[0]['missing'].replace('|', '/')} |" + " |" * 8)
            continue
        whole, epoch = middle(system, "whole"), middle(system, "epoch")
        lines.append(
            f"| {system} | {args.epochs * case.seconds / whole:.1f} | {case.seconds / epoch:.1f} | "
            f"{case.tokens / epoch:.1f} | {middle(system, 'start'):.1f} | {whole:.1f} | "
            f"{middle(system, 'peak'):.0f} | {middle(system, 'valid_loss'):.3f} | "
            f"{times(system, HF_30S)} | {times(system, HF_LEAST)} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = get_parser()
    args = parser.parse_args()
    args.sizes = args.sizes or (["mini_cs:32:8"] if args.quick else SIZES[args.device])
    for size in args.sizes:
        name, *numbers = size.split(":")
        if (name != "mini_cs" and name not in PUBLISHED) or len(numbers) != 2:
            parser.error(f"--sizes {size}: SIZE:UTTERANCES:BATCH, and SIZE is mini_cs or published")
    if not (args.data / "train_cs/wav.scp").is_file():
        parser.error(f"no {args.data}/train_cs: see --help for the command that makes it")
    where = cpu() if args.device == "cpu" else torch.cuda.get_device_name()
    text = [
        f"{where}, {args.threads} threads, load average {os.getloadavg()[0]:.1f} at the start, "
        f"{', '.join(f'{name} {version(name)}' for name in PACKAGES)}, revision "
        f"{revision(ROOT)[0][:7]}, {now()}; LoRA of rank {args.rank}, all linears, {args.epochs} "
        f"epochs, {args.rounds} rounds in turn, "
        f"{'wall time, bf16' if args.device == 'cuda' else 'processor seconds, fp32'}"
    ]
    raw = {}
    print(text[0], flush=True)
    for size in args.sizes:
        with tempfile.TemporaryDirectory(prefix="bench_train_") as box:
            case = lay_out(args, size, Path(box))
            found: dict[str, list[dict]] = {system: [] for system in args.systems}
            for number in range(args.rounds):
                for system in args.systems:
                    place = Path(box) / f"{number}_{len(found)}_{args.systems.index(system)}"
                    found[system].append(run(args, case, system, place))
                    print(f"  {size} {system}: {found[system][-1]}", file=sys.stderr, flush=True)
            count = size.split(":")[1]
            text.append(
                f"\n{count} utterances, {case.seconds:.0f} s, {case.tokens} tokens an epoch\n"
            )
            text.append(table(args, case, found))
            print("\n".join(text[-2:]), flush=True)
            raw[size] = {"case": asdict(case) | {"folder": ""}, "found": found}
    if args.out:
        args.out.write_text("\n".join(text) + "\n", encoding="utf-8")
        args.out.with_suffix(".json").write_text(json.dumps(raw, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
