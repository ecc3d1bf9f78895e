"""Memory of a training step: what `espnet-blora memory` computes, and what a process takes for it.

A row is one setting. Computed are tensors on shapes alone; measured is, on the CPU, how far the
resident pages of a process of its own rise above those before the model is made, and on a GPU what
torch has allocated at most. Weights are random, audio fills Whisper's window of 30 s.

    python3 benchmarks/memory.py
    python3 benchmarks/memory.py --device cuda --sizes small:8 large-v3-turbo:8 --set use_amp=true
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import yaml

from espnet_blora.bin.make_config import SHARED, load, merge, parse_setting
from espnet_blora.bin.memory import computed, training_step
from espnet_blora.whisper.sizes import dims_of

TOKENS = 100
GIVEN = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""So that glibc gives every freed tensor back: what it keeps by itself is no part of the model."""
CHECKPOINTED = {f"{p}_conf": {"activation_checkpointing": True} for p in ("encoder", "decoder")}


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=["tiny:2", "base:2"], metavar="SIZE:BATCH")
    parser.add_argument("--adapters", nargs="+", default=["lora", "blora"])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    return parser


def measured(config: dict, whisper: str, batch: int, device: str) -> int:
    """Return the bytes that a process of its own takes for two steps of this training."""
    words = [sys.executable, __file__, "--child", whisper, str(batch), device]
    done = subprocess.run(
        words, input=yaml.safe_dump(config), capture_output=True, text=True, env=os.environ | GIVEN
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return int(done.stdout.split()[-1])


def child(whisper: str, batch: int, device: str) -> None:
    """Print what two steps take."""
    config, dims = yaml.safe_load(sys.stdin), dims_of(whisper)
    little = replace(dims, n_audio_ctx=8, n_vocab=8, n_audio_layer=1, n_text_layer=1)
    training_step(config, little, 1, 2, device)[1]()  # loads libraries
    before = pages("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    tensors, step = training_step(config, dims, batch, TOKENS, device)
    del tensors
    for _ in range(2):
        step()
    print(torch.cuda.max_memory_allocated() if device == "cuda" else pages("VmHWM") - before)


def pages(what: str) -> int:
    """Return a figure of this process's /proc/self/status in bytes."""
    text = Path("/proc/self/status").read_text()
    return 1024 * int(text.partition(f"{what}:")[2].split()[0])


def rows(
    sizes: Sequence[str], adapters: Sequence[str], settings: Sequence[str], device: str
) -> Iterator[tuple[str, str, int, int]]:
    """Yield a size with its batch, an adapter, the bytes computed and the bytes measured."""
    for size in sizes:
        whisper, _, batch = size.partition(":")
        for adapter in adapters:
            for title, more in (("", {}), (", activation_checkpointing", CHECKPOINTED)):
                files = [SHARED / "train.yaml", SHARED / f"adapter_{adapter}.yaml"]
                given = map(parse_setting, ["use_amp=false", *settings])
                config = merge(*map(load, files), *given, more)
                ours = computed(config, whisper, int(batch), TOKENS).peak
                taken = measured(config, whisper, int(batch), device)
                yield f"{whisper}, {batch}", f"{adapter}{title}", ours, taken


def main() -> None:
    if "--child" in sys.argv:
        whisper, batch, device = sys.argv[-3:]
        return child(whisper, int(batch), device)
    args = get_parser().parse_args()
    print("| Whisper, batch | adapter | computed, MB | measured, MB | measured / computed |")
    print("|---|---|---|---|---|", flush=True)
    for size, adapter, ours, taken in rows(args.sizes, args.adapters, args.set, args.device):
        print(
            f"| {size} | {adapter} | {ours / 1e6:.0f} | {taken / 1e6:.0f} | {taken / ours:.2f} |",
            flush=True,
        )
    return None


if __name__ == "__main__":
    main()
