"""SIGKILL at random moments of a training: what is lost, and is the end the same to the bit?

A small training (random Whisper of width 16, 8 utterances, 12 epochs of 4 steps) runs once without
interruption. Then the same is started, killed after a random time and started again until it is
done, and its checkpoints are compared with those of the first, tensor by tensor: weights,
optimiser, scheduler, losses of every epoch. After each kill the folder must open, with no epoch
less than before. Trainings are forks of this process, which has ESPnet loaded: a kill hits the
training.

    python3 benchmarks/kills.py --kills 30
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch

from espnet_blora.data.prepare import prepare
from espnet_blora.data.records import Corpus, Expected, Utterance
from espnet_blora.utils.keyed import read_keyed
from tests.plugin.tiny import BLORA, TRAIN, Experiment

EPOCHS = 12
JOINED = "train_join0.5"
CHECKPOINTED = {"activation_checkpointing": True}
CASES = {
    "blora, activation_checkpointing": {
        **BLORA,
        "encoder_conf": {"pad_to": "batch", **CHECKPOINTED},
        "decoder_conf": CHECKPOINTED,
    },
    "blora of the decoder, memory_cache in files": {
        **BLORA,
        "adapter_conf": {**BLORA["adapter_conf"], "target_modules": ["cross_attn.query"]},
        "encoder_conf": {"pad_to": "batch", "memory_cache": True, "memory_cache_ram": 0.0},
    },
}
CASES["the same, activation_checkpointing, joined utterances"] = {
    **CASES["blora of the decoder, memory_cache in files"],
    "decoder_conf": CHECKPOINTED,
    JOINED: True,
}


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=30, help="of each case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    return parser


def joined(folder: Path) -> Path:
    """Make a training set of 8 utterances, joined of two segments each, as stage 1 does.

    Two speakers take turns of two segments in one recording, with 0.2 s between all.
    """
    draw, audio, clock = np.random.default_rng(1), folder / "recording.wav", 0.0
    segments = []
    for number in range(2 * TRAIN):
        speaker, end = "ab"[number // 2 % 2], round(clock + draw.uniform(0.3, 0.7), 3)
        uid = f"{speaker}-{number:02d}"
        segments.append(Utterance(uid, speaker, "en", f"word {number}", audio, clock, end))
        clock = round(end + 0.2, 3)
    soundfile.write(audio, 0.1 * draw.standard_normal(int(16000 * clock)), 16000)
    corpus = Corpus(
        "own", "own", "OWN", "", "", {"train": Expected()}, ("en",),
        find=lambda path: path, read=lambda *_: {"train": segments},
    )  # fmt: skip
    places = (folder / "data", folder / "clips")
    prepare(corpus, folder, [JOINED], *places, count_tokens=lambda text: len(text.split()))
    lengths = read_keyed(places[0] / JOINED / "utt2dur")
    assert len(lengths) == TRAIN, f"{len(lengths)} utterances, not {TRAIN}"
    shapes = [f"{uid} {round(16000 * float(length))}\n" for uid, length in lengths.items()]
    (places[0] / JOINED / "speech_shape").write_text("".join(shapes))
    return places[0] / JOINED


def attempt(train: Callable[[], object], log: Path, after: float | None) -> bool:
    """Train in a fork; kill it after so many seconds. Returns whether it ended by itself.

    Raises:
        RuntimeError: It failed.
    """
    child = os.fork()
    if not child:
        file = log.open("ab")
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        status = 1
        try:
            train()
            status = 0
        except BaseException:  # nothing of the fork may run on in the caller
            file.write(traceback.format_exc().encode())
            file.flush()
        finally:
            os._exit(status)
    end = time.monotonic() + (3600 if after is None else after)
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if status:
                raise RuntimeError(f"the training failed, see {log}:\n{log.read_text()[-2000:]}")
            return True
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def left(folder: Path) -> int:
    """Open what a kill has left; returns the last epoch that is there whole.

    Raises:
        Exception: A checkpoint does not open.
    """
    place = folder / "checkpoint.pth"
    if not place.exists():
        return 0
    epoch = len(torch.load(place)["reporter"]["stats"])
    for file in folder.glob("*epoch.pth"):
        torch.load(file)
    return epoch


def what_counts(folder: Path) -> dict:
    """Return all that a training left, without times."""
    state = torch.load(folder / "checkpoint.pth")
    state["reporter"] = {
        (epoch, part): {key: one[key] for key in one if key.startswith(("loss", "acc", "kl"))}
        for epoch, parts in state["reporter"]["stats"].items()
        for part, one in parts.items()
    }
    files = sorted(path for path in folder.glob("*.pth") if not path.is_symlink())
    return {"checkpoint": state, **{p.name: torch.load(p) for p in files if p.stem != "checkpoint"}}


def differences(one: object, two: object, name: str = "") -> list[str]:
    """Name what is not equal to the bit in two nested states."""
    if torch.is_tensor(one):
        return [] if torch.equal(one, two) else [name]
    if isinstance(one, dict):
        if one.keys() != two.keys():
            return [f"{name}: {sorted(map(str, one.keys() ^ two.keys()))}"]
        return [d for key in one for d in differences(one[key], two[key], f"{name}/{key}")]
    if isinstance(one, (list, tuple)):
        if len(one) != len(two):
            return [f"{name}: {len(one)} and {len(two)} entries"]
        pairs = enumerate(zip(one, two, strict=True))
        return [d for number, (a, b) in pairs for d in differences(a, b, f"{name}/{number}")]
    return [] if one == two or (one != one and two != two) else [name]


def battery(folder: Path, changes: dict, kills: int, seed: int = 0) -> dict:
    """Kill trainings at random moments.

    Args:
        folder: New; for everything.
        changes: Of the configuration.
        kills: How many; as many trainings are done as they take.
        seed: Of the moments.

    Returns:
        `kills`, `trainings` (done in spite of them), `lost` (epochs that were there before a kill
        and not after it) and `differences` from the training without interruption.
    """
    importlib.import_module("espnet2.bin.asr_train")  # here, not in every fork
    experiment = Experiment(folder)
    options = {**changes, "max_epoch": EPOCHS, "keep_nbest_models": EPOCHS}
    if options.pop(JOINED, False):
        experiment.train = joined(folder)

    def train(name: str) -> Callable[[], object]:
        return lambda: experiment.train_here(name, **options)

    began = time.monotonic()
    attempt(train("whole"), folder / "whole.log", None)
    took = time.monotonic() - began
    whole = what_counts(folder / "whole")
    moments, found = random.Random(seed), {"kills": 0, "trainings": 0, "lost": 0, "differences": []}
    while found["kills"] < kills or not found["trainings"]:
        name = f"killed{found['trainings']}"
        before = 0
        after = moments.uniform(0, took) if found["kills"] < kills else None
        while not attempt(train(name), folder / f"{name}.log", after):
            found["kills"] += 1
            now = left(folder / name)
            found["lost"] += max(0, before - now)
            before = now
            after = moments.uniform(0, took) if found["kills"] < kills else None
        found["differences"] += differences(whole, what_counts(folder / name))
        found["trainings"] += 1
    return found


def main() -> None:
    args = get_parser().parse_args()
    torch.set_num_threads(1)
    print("| training | kills | trainings done | epochs lost | tensors and losses that differ |")
    print("|---|---|---|---|---|", flush=True)
    bad = False
    for case in args.cases:
        with tempfile.TemporaryDirectory(prefix="bench_kills_") as box:
            found = battery(Path(box), CASES[case], args.kills, args.seed)
        wrong = found["differences"]
        bad |= bool(wrong or found["lost"])
        shown = ", ".join(wrong[:3]) or "none"
        print(
            f"| {case} | {found['kills']} | {found['trainings']} | {found['lost']} | {shown} |",
            flush=True,
        )
    sys.exit(bad)


if __name__ == "__main__":
    main()
