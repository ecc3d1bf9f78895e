"""A battery for accelerators: what CI, which has none, cannot run. One command, offline, minutes.

Each check runs what is there already (the tests' tiny experiment, the other benchmarks, the
command-line programs) on the device, and passes, fails or is skipped; what a CPU cannot do is
skipped with its reason, never passed. Results are written as `FOLDER/<device>.json` and `.md`.

    make accelerator                        # where there is a GPU
    make accelerator DEVICE=cpu             # what can run without one
    python3 benchmarks/accelerator.py --checks memory decode
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path

import torch

from benchmarks.kills import CASES, differences, what_counts
from benchmarks.memory import rows
from espnet_blora.data.audio import read
from espnet_blora.data.mini_cs import build
from espnet_blora.decoding import DecodingOptions, Transcriber, open_whisper
from espnet_blora.report.conditions import conditions
from espnet_blora.utils.keyed import read_keyed
from tests.plugin.tiny import BLORA, Experiment

ROOT = Path(__file__).resolve().parents[1]
BASE = ROOT / "egs2/mini_cs/asr1/base/tiny_mini_cs.safetensors"
CHECKPOINTED = "blora, activation_checkpointing"
FP32, BF16, FP16 = "fp32", "bf16", "fp16"
WITHIN = 0.1
"""Computed and measured memory may differ by this share."""
FRAMES = 0.04
"""Seconds by which a word's time may differ: two positions."""
SAME = 0.95
"""Texts that must be the same in half precision; the others were near ties."""


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--checks", nargs="+", choices=CHECKS, default=list(CHECKS))
    parser.add_argument("--quick", action="store_true", help="as small as can be: for CI")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/accelerator")
    return parser


class Skipped(Exception):
    """A check cannot run on this device; says why."""


@dataclass
class Result:
    """What a check said."""

    check: str
    verdict: str
    """passed, failed or skipped."""
    found: str
    """Figures, or why not; a line, or a table behind one."""
    seconds: float


@dataclass
class Bench:
    """Where the checks run, and what they share."""

    device: str
    quick: bool
    folder: Path

    @cached_property
    def experiment(self) -> Experiment:
        place = self.folder / "tiny"
        place.mkdir()
        return Experiment(place)

    @cached_property
    def data(self) -> Path:
        """Sets of mini_cs, spoken here."""
        scale = 0.06 if self.quick else 0.3
        build(self.folder / "data", ["train_cs", "valid_cs", "test_cs"], 1, scale)
        return self.folder / "data"

    @property
    def texts(self) -> int:
        """How many utterances are decoded."""
        return 8 if self.quick else 40

    def train(self, name: str, precision: str, **changes: object) -> dict:
        """Train the tiny experiment in this process; returns all that it left but times.

        Raises:
            Skipped: This device has no such precision.
        """
        with amp(precision, self.device):
            options = {**BLORA, **changes, "use_amp": precision != FP32}
            extra = ["--ngpu", str(int(self.device == "cuda")), "--cudnn_deterministic", "true"]
            return what_counts(self.experiment.train_here(name, extra, **options))

    def script(self, name: str, *words: str) -> str:
        """Run another benchmark on the device; returns what it printed.

        Raises:
            AssertionError: It failed.
        """
        return run(str(ROOT / f"benchmarks/{name}.py"), "--device", self.device, *words)


def run(*words: str) -> str:
    """Run a Python program in a process of its own; returns what it printed.

    Raises:
        AssertionError: It failed.
    """
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=ROOT)
    said = "\n".join(text[-1500:] for text in (done.stdout, done.stderr))
    assert done.returncode == 0, f"{Path(words[0]).name} ended with {done.returncode}\n\n{said}"
    return done.stdout


@contextmanager
def amp(precision: str, device: str) -> Iterator[None]:
    """Let ESPnet's trainer compute in a precision.

    Raises:
        Skipped: It cannot.
    """
    if precision == FP32:
        yield
        return
    if device != "cuda":
        raise Skipped("ESPnet's AMP is CUDA's")
    if precision == BF16 and not torch.cuda.is_bf16_supported():
        raise Skipped("this GPU has no bfloat16")
    from espnet2.train import trainer

    before = trainer.autocast_args
    trainer.autocast_args = {"dtype": torch.bfloat16} if precision == BF16 else {}
    try:
        yield
    finally:
        trainer.autocast_args = before


def equal(one: dict, two: dict) -> str:
    """Say that two trainings are equal to the bit.

    Raises:
        AssertionError: They are not.
    """
    wrong = differences(one, two)
    assert not wrong, f"{len(wrong)} tensors or losses differ: {', '.join(wrong[:3])}"
    return "weights, optimiser and losses equal to the bit"


# ---- the checks: each returns what it found, or raises -------------------------------------------


def resume(precision: str, bench: Bench) -> str:
    """Train two epochs at once, and in two goes."""
    whole = bench.train(f"whole_{precision}", precision)
    bench.train(f"parts_{precision}", precision, max_epoch=1)
    return equal(whole, bench.train(f"parts_{precision}", precision))


def checkpointing(precision: str, bench: Bench) -> str:
    """Train with and without activation checkpointing."""
    plain = bench.train(f"plain_{precision}", precision)
    return equal(plain, bench.train(f"checkpointed_{precision}", precision, **CASES[CHECKPOINTED]))


def memory(bench: Bench) -> str:
    """Compare the computed memory table with what a step takes."""
    sizes, settings = ["tiny:2"], []
    if bench.device == "cuda" and not bench.quick:
        sizes, settings = ["small:8", "large-v3-turbo:8"], ["use_amp=true"]
    adapters = ["blora"] if bench.quick else ["lora", "blora"]
    found = list(rows(sizes, adapters, settings, bench.device))
    lines = [
        f"| {size} | {adapter} | {ours / 1e6:.0f} | {taken / 1e6:.0f} | {taken / ours:.2f} |"
        for size, adapter, ours, taken in found
    ]
    head = "| Whisper, batch | adapter | computed, MB | measured, MB | ratio |"
    table = "\n".join([head, "|---|---|---|---|---|", *lines])
    off = max(abs(taken / ours - 1) for *_, ours, taken in found)
    assert off <= WITHIN, f"{100 * off:.0f} % apart\n\n{table}"
    return f"at most {100 * off:.0f} % apart\n\n{table}"


def train(bench: Bench) -> str:
    """Run whole trainings beside HF's."""
    size = "mini_cs:16:8" if bench.quick else "mini_cs:160:16"
    systems = ["ours, batch"] if bench.quick else ["ours, batch", "ours, blora, batch", "HF, 30 s"]
    out = bench.folder / "train.md"
    words = ["--data", str(bench.data), "--sizes", size, "--out", str(out), "--systems", *systems]
    table = bench.script("train", *words).partition("\n\n")[2].strip()
    (case,) = json.loads(out.with_suffix(".json").read_text()).values()
    bad = {name: one[0]["missing"] for name, one in case["found"].items() if "missing" in one[0]}
    assert not bad, f"{bad}"
    return f"all programs ended\n\n{table}"


def decode(bench: Bench) -> str:
    """Decode beside the other systems, one process each."""
    words = ["--quick", "--data", str(bench.data / "test_cs"), "--sizes"]
    words += [] if bench.quick else ["tiny"]
    words += ["--dtype", "float16"] if bench.device == "cuda" else []
    if bench.quick:
        words += ["--systems", "ours", "--utterances", str(bench.texts), "--beams", "5"]
    tables = bench.script("decode", *words).partition("\n\n")[2].strip()
    return f"ours decoded all\n\n{re.sub('^### ', '#### ', tables, flags=re.M)}"


def adapter_step(bench: Bench) -> str:
    """Time a training step by adapter."""
    words = ["--rounds", "2" if bench.quick else "9"]
    if bench.quick:
        words += ["--width", "64", "--layers", "1", "--batch", "2", "--seconds", "1"]
    table = bench.script("adapter_step", *words).partition("\n\n")[2].strip()
    return f"all methods ran\n\n{table}"


def texts_of(bench: Bench, device: str, dtype: str) -> dict[str, str]:
    """Transcribe mini_cs's test set in this process."""
    places, languages = (read_keyed(bench.data / "test_cs" / n) for n in ("wav.scp", "utt2lang"))
    ids = sorted(places)[: bench.texts]
    recogniser = open_whisper(str(BASE), device=device, dtype=dtype, pad_to="batch")
    options = DecodingOptions(language={uid: languages[uid] for uid in ids})
    heard = Transcriber(recogniser, options).transcribe({uid: read(places[uid]) for uid in ids})
    return {one.name: one.text for one in heard}


def same_texts(dtype: str, bench: Bench) -> str:
    """Decode in half precision on the device, and in fp32 on the CPU."""
    wanted = texts_of(bench, "cpu", "float32")
    found = texts_of(bench, bench.device, dtype)
    same = sum(found[uid] == text for uid, text in wanted.items())
    assert same >= SAME * len(wanted), f"{same} of {len(wanted)} texts are those of fp32"
    return f"{same} of {len(wanted)} texts are those of fp32 on the CPU"


def transcribe(bench: Bench) -> str:
    """Transcribe files with word times by the command, on the device and on the CPU."""
    places = [str(path) for path in sorted((bench.data / "audio/test_cs").glob("*.wav"))][:4]
    words = ["-m", "espnet_blora.bin.transcribe", *places, "--whisper", str(BASE)]
    words += ["--pad_to", "batch", "--language", "en", "--word_timestamps"]
    texts, times = [], []
    for device in (bench.device, "cpu"):
        out = bench.folder / f"transcribed_{len(texts)}_{device}"
        run(*words, "--device", device, "--output_dir", str(out), "--output_format", "json")
        files = [json.loads(path.read_text()) for path in sorted(out.glob("*.json"))]
        parts = [part for file in files for part in file["segments"]]
        texts.append([file["text"] for file in files])
        times.append([word["start"] for part in parts for word in part["words"]])
    assert len(texts[0]) == len(places) and texts[0] == texts[1], f"{texts}"
    assert times[0], "no words"
    apart = max(abs(a - b) for a, b in zip(*times, strict=True))
    assert apart <= FRAMES, f"word times are up to {apart:.2f} s apart"
    return f"{len(places)} files, {len(times[0])} words; from the CPU's times at most {apart:.2f} s"


CHECKS: dict[str, Callable[[Bench], str]] = {
    **{f"resume, {kind}": partial(resume, kind) for kind in (FP32, BF16, FP16)},
    **{f"activation checkpointing, {kind}": partial(checkpointing, kind) for kind in (FP32, BF16)},
    "memory": memory,
    "train": train,
    "decode": decode,
    "adapter_step": adapter_step,
    **{f"texts in {kind}": partial(same_texts, kind) for kind in ("float16", "bfloat16")},
    "transcribe": transcribe,
}


# ---- the battery ---------------------------------------------------------------------------------


def battery(bench: Bench, checks: list[str]) -> Iterator[Result]:
    """Run the checks; one that fails stops no other."""
    for name in checks:
        began = time.monotonic()
        try:
            verdict, found = "passed", CHECKS[name](bench)
        except Skipped as reason:
            verdict, found = "skipped", str(reason)
        except Exception as error:
            traceback.print_exc()
            verdict, found = "failed", str(error) or repr(error)
        yield Result(name, verdict, found, round(time.monotonic() - began, 1))


def page(pairs: list[tuple[str, str]], results: list[Result]) -> str:
    """Return the results as Markdown: conditions, one line per check, then what has tables."""
    lines = [f"* {name}: {value}" for name, value in pairs]
    lines += ["", "| check | verdict | found | s |", "|---|---|---|---|"]
    tables = []
    for one in results:
        first, _, table = one.found.partition("\n\n")
        said = " ".join(first.split()).replace("|", "/")
        lines.append(f"| {one.check} | {one.verdict} | {said} | {one.seconds:.0f} |")
        if table:
            tables.append(f"## {one.check}\n\n{table}\n")
    return "\n".join(["# What an accelerator does", "", *lines, "", *tables]).rstrip() + "\n"


def main() -> None:
    parser = get_parser()
    args = parser.parse_args()
    there = torch.cuda.is_available()
    if args.device == "cuda" and not there:
        parser.error("torch sees no CUDA device here; --device cpu runs what can run without one")
    where = torch.cuda.get_device_name() if args.device == "cuda" else "cpu"
    pairs = [("device", where), *conditions(ROOT)]
    if not there:
        pairs.insert(1, ("GPU", "none was at hand: nothing here ran on one"))
    if args.quick:
        pairs.append(("size", "--quick: as small as can be"))
    pairs.append(("load average at the start", f"{os.getloadavg()[0]:.1f}"))
    results = []
    with tempfile.TemporaryDirectory(prefix="bench_accelerator_") as box:
        for one in battery(Bench(args.device, args.quick, Path(box)), args.checks):
            results.append(one)
            print(f"{one.verdict:8}{one.check}: {one.found.partition(chr(10))[0]}", flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    place = args.out / re.sub(r"\W+", "_", where.lower())
    place.with_suffix(".md").write_text(page(pairs, results), encoding="utf-8")
    raw = {"conditions": dict(pairs), "checks": [asdict(one) for one in results]}
    place.with_suffix(".json").write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
    sys.exit(any(one.verdict == "failed" for one in results))


if __name__ == "__main__":
    main()
