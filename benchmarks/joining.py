"""What joined training utterances do to error rates, at equal speech and at equal updates.

A bed has single utterances. Those of each speaker of its train set are laid into one recording with
pauses between them, in which the noise of the utterance before goes on, and `data.joining.join`
makes training utterances of up to 28 s and 440 tokens of them, as `run.sh --join` does. LoRA is
trained on either, by the trainings of `retention.py`, and scored as trained on the bed's final
sets, which are single utterances:

* plain: 8 utterances an update, 7 epochs;
* joined: 8 windows an update, 7 epochs: equal speech, an eighth of the updates and less;
* one_by_one: joined, one window an update, 7 epochs: equal speech, and about as many updates;
* updates: joined, one window an update, in as many updates as plain: more speech.

Every run is one JSON under the recipe's exp/joining; what is there is not run again.

    cd egs2/mini_noisy/asr1 && ./run.sh --stop_stage 1; cd ../../..
    python3 benchmarks/joining.py egs2/mini_noisy/asr1
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from keeping.bed import Bed, Set
from keeping.runs import BATCH, EPOCHS, Runs, Sets, Setting

from espnet_blora.data import audio, kaldi
from espnet_blora.data.joining import join
from espnet_blora.data.records import Utterance
from espnet_blora.scoring.intervals import Variance, around
from espnet_blora.utils.keyed import read_keyed
from espnet_blora.whisper.vocabulary import count_tokens

ROOT = Path(__file__).resolve().parents[1]
BASE = ROOT / "egs2/mini_cs/asr1/base/tiny_mini_cs.safetensors"
PAUSE, GAP = 0.3, 0.5
"""Seconds between two utterances of a recording, and those that `join` may bridge."""
EDGE = 800
"""Samples at the end of every utterance in which nobody speaks: 50 ms."""
PLAIN, JOINED = "plain", ("joined", "one_by_one", "updates")


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", type=Path, help="such as egs2/mini_noisy/asr1, with data/")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--conditions", nargs="+", choices=JOINED, default=list(JOINED))
    parser.add_argument("--base", type=Path, default=BASE)
    parser.add_argument("--lr", type=float, default=0.003)
    parser.add_argument("--decay", type=float, default=1.0)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    return parser


# ---- the joined set ------------------------------------------------------------------------------


def record(source: Path, target: Path, clips: Path, seed: int = 0) -> dict[str, list[str]]:
    """Write a data directory of recordings with `segments`: those of `source`, joined.

    Args:
        source: A data directory of single utterances.
        target: What is written.
        clips: Where the recordings go, one per speaker.
        seed: Of the noise in pauses.

    Returns:
        The ids of the utterances that each joined one is made of.
    """
    places, texts, speakers, languages = (
        read_keyed(source / name) for name in ("wav.scp", "text", "utt2spk", "utt2lang")
    )
    rng = np.random.default_rng(seed)
    pieces: dict[str, list[np.ndarray]] = defaultdict(list)
    ends: dict[str, int] = defaultdict(int)  # samples of a recording so far
    utterances = []
    for uid in sorted(places):
        speaker = speakers[uid]
        if pieces[speaker]:
            pieces[speaker].append(quiet(pieces[speaker][-1], rng))
            ends[speaker] += len(pieces[speaker][-1])
        pieces[speaker].append(audio.read(places[uid]))
        start, ends[speaker] = ends[speaker], ends[speaker] + len(pieces[speaker][-1])
        times = start / audio.SAMPLE_RATE, ends[speaker] / audio.SAMPLE_RATE
        recording = clips / f"{speaker}.wav"
        utterances.append(Utterance(uid, speaker, languages[uid], texts[uid], recording, *times))
    for speaker, waves in pieces.items():
        clips.mkdir(parents=True, exist_ok=True)
        audio.write(clips / f"{speaker}.wav", np.concatenate(waves))
    joined = join(target.name, utterances, [], GAP, count_tokens)
    files = {
        "text": {u.id: u.text for u in joined.utterances},
        "utt2spk": {u.id: u.speaker for u in joined.utterances},
        "utt2lang": {u.id: u.language for u in joined.utterances},
        "segments": {u.id: f"{u.speaker} {u.start} {u.end}" for u in joined.utterances},
        "wav.scp": {speaker: str(clips / f"{speaker}.wav") for speaker in pieces},
    }
    kaldi.write(target, files)
    return joined.parts


def quiet(before: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a pause: noise of the power and the spectrum that an utterance has at its end."""
    edge = before[-EDGE:]
    white = rng.standard_normal(round(PAUSE * audio.SAMPLE_RATE) + len(edge) - 1)
    return np.convolve(white, edge / math.sqrt(len(edge)), "valid").astype(np.float32)


@dataclass(frozen=True)
class Named(Sets):
    """The sets of a bed with another train set: `of`."""

    of: str = ""

    @property
    def train(self) -> str:
        return self.of


class OneByOne(Set):
    """A set whose batches have one utterance each."""

    def batches(self, size: int) -> list[list[int]]:
        return super().batches(1)


# ---- trainings and table -------------------------------------------------------------------------


@dataclass(frozen=True)
class Condition:
    """One way to train: `runs` has its train set, `setting` its epochs."""

    runs: Runs
    setting: Setting

    @property
    def train(self) -> Set:
        return self.runs.bed.sets[self.runs.sets.train]

    @property
    def updates(self) -> int:
        return self.setting.epochs * len(self.train.batches(BATCH))

    @property
    def hours(self) -> float:
        return self.setting.epochs * self.train.seconds / 3600


def conditions(
    args: argparse.Namespace, data: Path, folder: Path
) -> tuple[dict[str, Condition], list[int]]:
    """Return who trains, by name, and how many utterances each joined one is made of.

    Args:
        args: The program's options.
        data: Of the bed; the joined set goes there.
        folder: Of the recordings and of all runs.
    """
    sets = Sets(args.recipe.name.partition("_")[2])
    joined = f"{sets.train}_join{GAP:g}"
    parts = record(data / sets.train, data / joined, folder / "recordings")
    bed = Bed(data, args.base, [sets.train, joined, *sets.final])
    windows, alone = bed.sets[joined], f"{joined}_one_by_one"
    bed.sets[alone] = OneByOne(**vars(windows))
    most = args.epochs * len(bed.sets[sets.train].batches(BATCH)) / len(windows.ids)
    plans = {
        PLAIN: (sets.train, args.epochs),
        "joined": (joined, args.epochs),
        "one_by_one": (alone, args.epochs),
        "updates": (alone, round(most)),
    }
    found = {}
    for name in (PLAIN, *args.conditions):
        train, epochs = plans[name]
        place, setting = folder / name, Setting("lora", "lora", args.lr, args.decay, epochs)
        runs = Runs(bed, Named(sets.new, of=train), place, place / "work", epochs, knobs=(1.0,))
        found[name] = Condition(runs, setting)
    return found, [*map(len, parts.values())]


def rates(run: Mapping, sets: Sets) -> np.ndarray:
    """Return the errors on the new domain and the mean of those on the old sets, per cent."""
    new, *old = (100 * run["sets"][name]["rates"][-1] for name in sets.final)
    return np.array([new, sum(old) / len(old)])


def difference(values: np.ndarray) -> str:
    """Return the mean of differences, one per seed, and its 95 % interval by Student's t."""
    mean, count = float(values.mean()), len(values)
    if count < 2:
        return f"{mean:+.2f}"
    spread = float(values.var(ddof=1)) / count
    interval = around(mean, Variance(0.0, spread, spread**2 / (count - 1)), rate=False)
    return f"{mean:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"


def table(found: Mapping[str, Condition], seeds: Sequence[int]) -> str:
    """Return the comparison as Markdown: means over seeds, and differences to plain, paired."""
    read = {
        name: [json.loads(one.runs.path(one.setting, seed).read_text()) for seed in seeds]
        for name, one in found.items()
    }
    plain = found[PLAIN].runs
    base = rates(json.loads(plain.path(None).read_text()), plain.sets)
    heads = "training|updates|hours heard|training, s|new|old|new, less plain|old, less plain"
    lines = [
        f"Base: new {base[0]:.1f}, old {base[1]:.2f}; seeds {' '.join(map(str, seeds))}.\n",
        f"| {heads.replace('|', ' | ')} |",
        "|---" * 8 + "|",
    ]
    errors = {
        name: np.array([rates(run, plain.sets) for run in runs])  # (S, 2)
        for name, runs in read.items()
    }
    for name, one in found.items():
        less = errors[name] - errors[PLAIN]
        cells = [
            name,
            str(one.updates),
            f"{one.hours:.1f}",
            f"{np.mean([run['train_s'] for run in read[name]]):.0f}",
            f"{errors[name][:, 0].mean():.1f}",
            f"{errors[name][:, 1].mean():.2f}",
            *(["", ""] if name == PLAIN else map(difference, less.T)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    args = get_parser().parse_args()
    recipe = args.recipe.resolve()
    args.recipe, args.base = recipe.parent, args.base.resolve()
    torch.set_num_threads(1)
    os.chdir(recipe)  # audio is named from there
    found, parts = conditions(args, Path("data"), Path("exp/joining"))
    train = found[PLAIN].train
    print(
        f"{len(train.ids)} utterances, {train.seconds:.0f} s; of {min(parts)} to {max(parts)} of "
        f"them {len(parts)} joined ones",
        flush=True,
    )
    plain = found[PLAIN].runs
    plain.run(None, 0, plain.sets.final)
    for seed in args.seeds:
        for name, one in found.items():
            if one.runs.run(one.setting, seed, plain.sets.final):
                print(f"  {name}, seed {seed}", file=sys.stderr, flush=True)
    sys.stdout.write(table(found, args.seeds))


if __name__ == "__main__":
    main()
