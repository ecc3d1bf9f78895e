"""Reading of experiments: scores, training logs, checkpoints, sweeps, texts.

Whatever is missing or cannot be read becomes a note, and the report prints the notes.
"""

from __future__ import annotations

import base64
import glob
import io
import json
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import soundfile
import yaml

from espnet_blora.report import sparsity
from espnet_blora.report.experiments import LABELS, SEED, Experiment, Training
from espnet_blora.scoring import SetScore
from espnet_blora.scoring.sclite import parse_percentages
from espnet_blora.scoring.sweep import SweepRow, load_sweep
from espnet_blora.utils.keyed import read_keyed

CHECKPOINTS = ("valid.acc.best.pth", "valid.loss.best.pth")  # what decoding uses, in this order
_TRAINABLE = re.compile(r"trainable parameters ([\d,]+) of ([\d,]+)")
_ESPNET_TRAINABLE = re.compile(r"Number of trainable parameters: ([\d.]+ ?[KMBT]?) \(([\d.]+)%\)")
_TOOK = re.compile(r"\b(\d+)epoch results: \[train\].*?\btime=([^\[]*?), total_count")
_SPAN = re.compile(r"([\d.]+) (second|minute|hour|day)")
_IN_SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}
_OLD_AUDIO = re.compile(r"\b(\d+) s of (?:old )?audio\b")
_EPOCH = re.compile(r"\b(\d+)epoch results: \[train\].*?\btrain_time=([\d.e+-]+)")
GROUPS = ("by_language", "by_speaker")
LONGEST = 15.0
"""Seconds of an utterance that the page holds."""


def collect(
    folder: str | Path,
    role: str,
    sets: Sequence[str],
    inference_tag: str = "decode",
    resample: str = "auto",
) -> Experiment:
    """Read one experiment; what is missing is said in its `notes`.

    Args:
        folder: Of the experiment.
        role: `base`, `lora`, `blora` or `other`.
        sets: Names of sets.
        inference_tag: Name of the decoding.
        resample: What intervals take as independent units: see `intervals.units_of`.

    Raises:
        ValueError: Speakers are to be the units, and a score names none.
    """
    folder = Path(folder)
    label = LABELS.get(role, folder.name.removeprefix("asr_"))
    experiment = Experiment(folder.name, folder, role, label)
    if not experiment.exists:
        experiment.notes.append(f"{folder} does not exist: run the recipe with this adapter")
        return experiment
    experiment.config = _config(folder / "config.yaml", experiment.notes)
    for name in sets:
        place = folder / inference_tag / name
        if not place.is_dir() and (folder / inference_tag / "org" / name).is_dir():
            place = folder / inference_tag / "org" / name  # a validation set is decoded undropped
        experiment.decoded[name] = place
        _score(experiment, name, place / "score_blora" / "score.json", resample)
    _sclite(experiment)
    if experiment.adapted:
        _adapter(experiment)
        experiment.sweep = _sweep(folder / "scale_sweep.json", experiment.notes)
        if (repairs := folder / "repair_sweep.json").is_file():
            experiment.repairs = _sweep(repairs, experiment.notes)
    return experiment


def _score(experiment: Experiment, name: str, path: Path, resample: str) -> None:
    """Read our score of a set."""
    try:
        score = replace(SetScore.load(path), resample=resample)
    except (FileNotFoundError, ValueError) as error:
        experiment.notes.append(f"no score of {name}: {error}")
        if isinstance(error, ValueError):
            experiment.unread[name] = error
        return
    try:
        units = score.units
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    experiment.scores[name] = score
    document = json.loads(path.read_text("utf-8"))
    experiment.compared[name] = document.get("sclite") or {}
    experiment.published[name] = document.get("published") or {}
    experiment.groups[name] = {kind: document.get(kind) or {} for kind in GROUPS}
    if (
        units.kind == "utterances"
        and resample == "auto"
        and len(document.get("by_speaker") or {}) >= 5
    ):
        experiment.notes.append(
            f"{path} is of an older release and does not say who speaks: its intervals are over "
            "utterances, too narrow where speakers differ; score it anew"
        )


def _sclite(experiment: Experiment) -> None:
    """Read sclite's results of all sets, which stage 13 leaves."""
    absent = []
    for name, kind in product(experiment.decoded, ("wer", "cer")):
        path = experiment.decoded[name] / f"score_{kind}" / "result.txt"
        if not path.is_file():
            absent.append(f"{name} ({kind})")
            continue
        text = path.read_text("utf-8", "replace")
        cells = parse_percentages(text)
        experiment.sclite[name, kind] = cells or ["not", "scored", *"------"]
        if not cells or cells[0] == "not":
            first = text.strip().split("\n")[0]
            experiment.notes.append(f"sclite did not score {name} ({kind}): {first}")
    if absent:
        experiment.notes.append(f"no sclite result.txt (stage 13) of {', '.join(absent)}")


def read_training_log(text: str) -> Training:
    """Read ESPnet's `train.log`."""
    times = {int(epoch): float(seconds) for epoch, seconds in _EPOCH.findall(text)}
    counts = _TRAINABLE.search(text)
    trainable = total = None
    if counts:
        trainable, total = (int(n.replace(",", "")) for n in counts.groups())
    else:
        summary = _ESPNET_TRAINABLE.search(text)
        if summary and float(summary.group(2)) > 0:
            trainable = _human(summary.group(1))
            total = round(trainable / float(summary.group(2)) * 100)
    first = text.split("\n", 1)[0]
    took = {  # an epoch that was begun again counts once
        epoch: sum(float(number) * _IN_SECONDS[unit] for number, unit in _SPAN.findall(span))
        for epoch, span in _TOOK.findall(text)
    }
    return Training(
        statistics.median(times.values()) if times else None,
        trainable,
        total,
        first[2:].strip() if first.startswith("# ") else "",
        sum(took.values()) if took else None,
        max(map(float, _OLD_AUDIO.findall(text)), default=0.0),
    )


def _human(number: str) -> int:
    value, _, unit = number.partition(" ")
    return round(float(value) * {"": 1, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}[unit])


def _config(path: Path, notes: list[str]) -> dict:
    if not path.is_file():
        notes.append(f"no {path.name}: settings are unknown")
        return {}
    try:
        config = yaml.load(
            path.read_text("utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        )
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        notes.append(f"{path} cannot be read: {' '.join(str(error).split())}")
        return {}
    return config if isinstance(config, dict) else {}


def _adapter(experiment: Experiment) -> None:
    log = experiment.folder / "train.log"
    if log.is_file():
        experiment.training = read_training_log(log.read_text("utf-8", "replace"))
        if experiment.training.seconds_per_step is None:
            experiment.notes.append(
                "train.log holds no finished epoch: seconds per step are unknown"
            )
    else:
        experiment.notes.append("no train.log: trainable share and seconds per step are unknown")
    names = [*CHECKPOINTS, *sorted(p.name for p in experiment.folder.glob("valid.*.best.pth"))]
    checkpoint = next((p for n in names if (p := experiment.folder / n).is_file()), None)
    if checkpoint is None:
        experiment.notes.append("no valid.*.best.pth: file size and sparsity are unknown")
        return
    experiment.checkpoint_bytes = checkpoint.stat().st_size
    if experiment.full:
        return  # no factors to look at
    method = str(experiment.config.get("adapter", experiment.role))
    try:
        layers = sparsity.read_factors(checkpoint)
        experiment.adapter_bytes, experiment.means_bytes = sparsity.sizes(layers)
        conf = experiment.config.get("adapter_conf") or {}
        experiment.sparsity = sparsity.of_factors(layers, method, conf)
    except ValueError as error:
        experiment.notes.append(f"no sparsity: {error}")


def _sweep(path: Path, notes: list[str]) -> list[SweepRow]:
    """Read the rows that `bin.sweep` writes."""
    if not path.is_file():
        notes.append(
            f"no {path.name}: the rival 'scale turned down' is not shown; make it with python3 -m "
            f'espnet_blora.bin.sweep --asr_exp {path.parent} --whisper ... --sets "..."'
        )
        return []
    try:
        rows = load_sweep(path)
    except ValueError as error:
        notes.append(f"the rival is not shown: {error}")
        return []
    if any(row.detail is None for row in rows):
        notes.append(
            f"{path} has no counts by utterance ({path.stem}.npz), as sweeps of older releases: "
            "its curve is drawn, but no difference to it can be told from chance; decode it anew "
            "with espnet-blora sweep"
        )
    return rows


class Texts:
    """Texts of references and hypotheses, each file read once; missing ones are noted."""

    def __init__(self, dump: Path, audio: bool = True):
        self.dump = dump
        self.audio = audio
        self.notes: list[str] = []
        self._kept: dict[Path, Mapping[str, str]] = {}
        self._files: dict[Path, Mapping[str, str]] = {}

    def sound(self, name: str, uid: str) -> str:
        """Return an utterance as a `data:` address (FLAC); "" where it is not at hand, or long."""
        places = [self.dump / name, self.dump / "org" / name]
        folder = next((p for p in places if (p / "wav.scp").is_file()), None)
        if not self.audio or folder is None or (folder / "segments").is_file():
            return ""
        if folder not in self._files:
            self._files[folder] = read_keyed(folder / "wav.scp")
        # a recipe's paths are relative to the folder that its dump/raw is in
        named = self._files[folder].get(uid, "")
        path = next(
            (p for p in (Path(named), *(up / named for up in folder.parents)) if p.is_file()), None
        )
        if path is None:
            return ""
        try:
            if soundfile.info(path).duration > LONGEST:
                return ""
            wave, rate = soundfile.read(path, dtype="int16")
        except (soundfile.LibsndfileError, OSError):
            return ""
        file = io.BytesIO()
        soundfile.write(file, wave, rate, format="FLAC")
        return f"data:audio/flac;base64,{base64.b64encode(file.getvalue()).decode()}"

    def reference(self, name: str) -> Mapping[str, str]:
        """Return the references of a set; none where the text is gone."""
        places = [self.dump / name / "text", self.dump / "org" / name / "text"]
        return self._text(next((p for p in places if p.is_file()), places[0]))

    def heard(self, run: Experiment, name: str) -> Mapping[str, str]:
        """Return what an experiment heard; nothing where the text is gone."""
        return self._text(run.decoded[name] / "text") if name in run.decoded else {}

    def _text(self, path: Path) -> Mapping[str, str]:
        if path not in self._kept:
            try:
                self._kept[path] = read_keyed(path)
            except (OSError, ValueError) as error:
                self._kept[path] = {}
                gone = "is not there any more" if not path.is_file() else f"cannot be read: {error}"
                self.notes.append(f"{path} {gone}; its words are not shown")
        return self._kept[path]


def scored_sets(exp: Path, inference_tag: str) -> dict[str, list[str]]:
    """Return experiment -> scored sets, for all experiments in `exp` that have any."""
    sets: dict[str, list[str]] = {}
    for inner in ("*", "org/*"):
        pattern = f"*/{glob.escape(inference_tag)}/{inner}/score_blora/score.json"
        for path in sorted(exp.glob(pattern)):
            experiment = path.relative_to(exp).parts[0]
            sets.setdefault(experiment, []).append(path.parent.parent.name)
    return sets


def new_domain_sets(folders: Iterable[Path], inference_tag: str) -> list[str]:
    """Return the sets that run.sh scored as the new domain: a file of stage 13 names them."""
    files = (folder / inference_tag / "test_sets" for folder in folders)
    names = (name for f in files if f.is_file() for name in f.read_text(encoding="utf-8").split())
    return list(dict.fromkeys(names))


def folders_of(exp: Path, word: str) -> list[Path]:
    """Return what a name stands for: that folder (in `exp`, or as a path), else its seeds.

    `asr_x` is `asr_x` where there is one, else `asr_x_seed1`, `asr_x_seed2`, ... A name
    that stands for nothing is returned as a folder of `exp`, which is then said to be missing.
    """
    for place in (exp / word, Path(word)):
        if place.is_dir():
            return [place]
    seeds = [p for p in exp.glob(f"{glob.escape(word)}_seed*") if p.is_dir()]
    return sorted((p for p in seeds if SEED.search(p.name)), key=_by_seed) or [exp / word]


def _by_seed(path: Path) -> tuple[str, int]:
    return SEED.sub("", path.name), int(path.name.rpartition("_seed")[2])
