r"""Experiments, and systems: several training seeds of one method are one system.

The rate of a system with seeds :math:`s = 1..n` on a set of utterances u is the mean over its
seeds,

.. math:: E = \frac1n \sum_s \frac{\sum_u e_{s,u}}{\sum_u t_u}

(e errors, t reference tokens). Its interval is that of other utterances (or speakers) and of other
seeds together (`espnet_blora.scoring.intervals`). Seeds are never counted as further utterances:
three seeds on 200 utterances are 200 units, not 600. Of one seed the interval holds for that one
training. The spread (standard deviation over seeds, n - 1) stands beside it.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from espnet_blora.scoring import SetScore
from espnet_blora.scoring.intervals import Units
from espnet_blora.scoring.sweep import SweepRow

LABELS = {"base": "base", "lora": "LoRA", "blora": "BLoRA"}
SEED = re.compile(r"_seed(\d+)$")


@dataclass(frozen=True)
class Training:
    """What a training log says.

    Attributes:
        seconds_per_step: Median over epochs of ESPnet's `train_time` (one optimiser step).
        trainable, total: Numbers of parameters.
        command: The first command in the log.
        seconds: Of all epochs together, without validation.
        old_audio: Seconds of old audio that training used; 0 where the log tells of none.
    """

    seconds_per_step: float | None
    trainable: int | None
    total: int | None
    command: str
    seconds: float | None = None
    old_audio: float = 0.0


@dataclass(frozen=True)
class Sparsity:
    """The five measures of one kind of matrix, as `espnet_blora.report.sparsity` defines them."""

    below: float
    adaptive_mean: float
    adaptive_std: float
    top_energy: float
    hoyer: float


@dataclass
class Experiment:
    """Everything known of one experiment; `notes` says what is missing.

    Attributes:
        name, folder: The experiment's folder.
        role: `base`, `lora`, `blora` or `other`.
        label: What figures and tables call it.
        config: ESPnet's `config.yaml`.
        scores: Set -> our score.
        unread: Set -> why its score, which is there, cannot be read.
        sclite: (set, `wer` | `cer`) -> the eight cells of sclite's Sum/Avg row.
        compared: Set -> sclite's totals on our tokens, as `score.json` has them.
        published: Set -> its published size, as `score.json` has it.
        groups: Set -> `by_speaker` | `by_language` -> name -> counts and rate, as
            `score.json` has them.
        decoded: Set -> the folder of its hypotheses and scores.
        repairs: Rows of the sweep over repairs.
        checkpoint_bytes: Size of ESPnet's checkpoint, buffers included.
        adapter_bytes: All factors, means and scales: what `Adapter.save` writes, but for its
            metadata (tens of kB).
        means_bytes: The means alone: what decoding needs.
    """

    name: str
    folder: Path
    role: str
    label: str
    config: dict = field(default_factory=dict)
    scores: dict[str, SetScore] = field(default_factory=dict)
    unread: dict[str, ValueError] = field(default_factory=dict)
    sclite: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    compared: dict[str, dict] = field(default_factory=dict)
    published: dict[str, dict] = field(default_factory=dict)
    training: Training | None = None
    checkpoint_bytes: int | None = None
    adapter_bytes: int | None = None
    means_bytes: int | None = None
    sparsity: dict[str, Sparsity] = field(default_factory=dict)
    sweep: list[SweepRow] = field(default_factory=list)
    repairs: list[SweepRow] = field(default_factory=list)
    groups: dict[str, dict[str, dict[str, dict]]] = field(default_factory=dict)
    decoded: dict[str, Path] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def exists(self) -> bool:
        """Whether there is such a folder."""
        return self.folder.is_dir()

    @property
    def adapted(self) -> bool:
        """Whether this is not the base."""
        return self.role != "base"

    @property
    def full(self) -> bool:
        """Whether all weights were trained: there is no adapter to turn down."""
        return self.adapted and self.config.get("use_adapter") is False


@dataclass
class System:
    """One method: an experiment, or the experiments of its seeds.

    Attributes:
        name: The experiment's name, without `_seedN` if there are several.
        label: What figures and tables call it.
        role: `base`, `lora`, `blora`, `other`, or `repaired` (see `repaired`).
        runs: Its experiments, one per seed.
        knob: What its sweep turns: `scale`, or `mu`, the strength of a repair, which stands in the
            sweep as 1 / (1 + mu), the scale that it is where old and new inputs are alike.
    """

    name: str
    label: str
    role: str
    runs: list[Experiment]
    knob: str = "scale"

    def at(self, place: float) -> str:
        """Return what a place of the knob is called: `0.7`, or `mu 0.5`."""
        if self.knob == "scale":
            return f"{place:g}"
        return f"mu {1 / place - 1:.3g}" if place > 0 else "mu inf"

    @property
    def adapted(self) -> bool:
        """Whether this is not the base."""
        return self.role != "base"

    @property
    def full(self) -> bool:
        """Whether all weights were trained, so that its sweep interpolates weights."""
        return all(run.full for run in self.runs)

    @property
    def seconds_per_step(self) -> float | None:
        """The seconds a training step took, the mean over seeds; None if no log says."""
        trainings = [run.training for run in self.runs if run.training]
        times = [t.seconds_per_step for t in trainings if t.seconds_per_step]
        return statistics.fmean(times) if times else None

    @property
    def plain_lora(self) -> bool:
        """Whether this is LoRA as anybody trains it, at whatever rate and decay."""
        return self.role != "repaired" and all(
            run.adapted
            and not run.full
            and run.config.get("adapter", run.role) == "lora"
            and not run.config.get("retain")
            for run in self.runs
        )

    @property
    def old_audio(self) -> float | None:
        """Seconds of old audio that it was told to keep; None where that is not known."""
        used = [row.old_audio or 0.0 for run in self.runs for row in run.sweep]
        used += [run.training.old_audio for run in self.runs if run.training]
        if any(used):
            return max(used)
        uses = any(
            run.config.get("retain")
            or {"fisher_file", "keep_file"} & (run.config.get("adapter_conf") or {}).keys()
            for run in self.runs
        )
        return None if uses or not any(run.training for run in self.runs) else 0.0

    @property
    def training_seconds(self) -> float | None:
        """Seconds that a training took, the mean over seeds; None if no log says."""
        times = [run.training.seconds for run in self.runs if run.training]
        known = [seconds for seconds in times if seconds is not None]
        return statistics.fmean(known) if known else None

    def with_score(self, name: str) -> list[Experiment]:
        """Return the runs that have a rate on a set."""
        return [r for r in self.runs if name in r.scores and r.scores[name].rate is not None]

    def rates(self, name: str) -> list[float]:
        """Return the rate of each seed on a set."""
        rates = [run.scores[name].rate for run in self.with_score(name)]
        return [rate for rate in rates if rate is not None]

    def rate(self, name: str) -> float | None:
        """Return the mean rate over seeds on a set; None without any."""
        rates = self.rates(name)
        return statistics.fmean(rates) if rates else None

    def shape(self, name: str) -> tuple[tuple[str, int], ...] | None:
        """Return ids and reference tokens of a set; None if the seeds' differ, or without score."""
        shapes = {shape(run.scores[name]) for run in self.with_score(name)}
        return shapes.pop() if len(shapes) == 1 else None

    def whole(self, sets: Sequence[str]) -> list[Experiment]:
        """Return the runs that have a rate on each of some sets."""
        return [run for run in self.runs if all(run in self.with_score(n) for n in sets)]

    def units(self, name: str) -> Units:
        """Return the independent units of a set.

        Raises:
            IndexError: No run has a score of it.
        """
        return self.with_score(name)[0].scores[name].units

    def errors(self, name: str, runs: Sequence[Experiment] | None = None) -> np.ndarray:
        """Return the errors (S, U) of runs, by default all with a score, by utterance.

        Raises:
            ValueError: `shape` is None.
        """
        if self.shape(name) is None:
            raise ValueError(f"{self.label}: its seeds do not share the references of {name}")
        runs = self.with_score(name) if runs is None else runs
        return np.array([[u.errors for u in run.scores[name].utterances] for run in runs])


Shape = tuple[tuple[str, int], ...]
"""(id, reference tokens) of a set's utterances."""


def shape(score: SetScore) -> Shape:
    """Return what two scores must share to be compared utterance by utterance."""
    return tuple((u.id, u.tokens) for u in score.utterances)


def make_systems(
    experiments: Iterable[Experiment], groups: Sequence[str] = (), labels: Sequence[str] = ()
) -> list[System]:
    """Make systems of experiments: `NAME_seedN` belong together, and whatever is said to.

    Args:
        experiments: Of one role each; the order is kept.
        groups: `"NAME=asr_a asr_b"`: these experiments are the seeds of NAME.
        labels: `"NAME=what to call it"`, NAME a system or an experiment.

    Raises:
        ValueError: A group or label that names nothing, or an experiment in two groups.
    """
    experiments = list(experiments)
    homes, names = _homes(experiments, groups), {e.name for e in experiments}
    systems: dict[str, System] = {}
    for e in experiments:
        name = homes.get(e.name) or _stem(e.name, names)
        systems.setdefault(name, System(name, e.label, e.role, [])).runs.append(e)
    result = list(systems.values())
    for system in result:
        if len(system.runs) == 1 and system.runs[0].name not in homes:
            system.name = system.runs[0].name
        elif system.label not in LABELS.values():
            system.label = system.name.removeprefix("asr_")
    _relabel(result, labels)
    for label in {s.label for s in result}:
        if len(same := [s for s in result if s.label == label]) > 1:
            for system in same:
                system.label = f"{label} ({system.name})"
    for system in result:
        for run in system.runs:
            run.label = system.label
            if len(system.runs) > 1:
                run.label += f" ({run.name.removeprefix(system.name).strip('_') or run.name})"
    return result


def repaired(systems: Iterable[System]) -> list[System]:
    """Return what systems become by repair, as systems of their own.

    One along the strength, at scale 1, from the base (all is taken away) to the adapter as trained;
    and one along the scale for every strength that was decoded at several.
    """
    made = []
    for system in systems:
        rows = [row for run in system.runs for row in run.repairs]
        if any(row.scale == 1 and row.repair for row in rows):
            made.append(_derived(system, "repaired", "mu", None))
        for strength in sorted({row.repair for row in rows} - {0.0}):
            if len({row.scale for row in rows if row.repair == strength}) > 1:
                made.append(_derived(system, f"repaired, mu {strength:g}", "scale", strength))
    return made


def _derived(system: System, tag: str, knob: str, strength: float | None) -> System:
    """Return a system of the repairs of another: of one strength, or of all at scale 1."""
    runs = []
    for run in system.runs:
        if strength is None:
            rows = [row for row in run.sweep if row.scale in (0, 1)]
            at_one = [row for row in run.repairs if row.scale == 1]
            rows += [replace(row, scale=1 / (1 + row.repair)) for row in at_one]
        else:
            rows = [row for row in run.sweep if row.scale == 0]
            rows += [row for row in run.repairs if row.repair == strength]
        label = f"{run.label}, {tag}"
        runs.append(replace(run, label=label, scores={}, sweep=rows, repairs=[]))
    return System(f"{system.name}, {tag}", f"{system.label}, {tag}", "repaired", runs, knob)


def _stem(name: str, names: Container[str]) -> str:
    """Return a name without its seed; `NAME_seed*` where an experiment is called NAME alone."""
    stem = SEED.sub("", name)
    return f"{stem}_seed*" if stem != name and stem in names else stem


def _homes(experiments: Sequence[Experiment], groups: Sequence[str]) -> dict[str, str]:
    known = {e.name for e in experiments}
    homes: dict[str, str] = {}
    for text in groups:
        name, _, members = text.partition("=")
        unknown = [m for m in members.split() if m not in known]
        if not name.strip() or not members.split() or unknown:
            raise ValueError(
                f"--group {text!r}: give NAME=EXPERIMENT EXPERIMENT ...; "
                f"{_known(unknown, known) if unknown else 'a name and its seeds are needed'}"
            )
        if name.strip() in known - set(members.split()):
            raise ValueError(f"--group {text!r}: {name.strip()} is an experiment outside the group")
        for member in members.split():
            if homes.setdefault(member, name.strip()) != name.strip():
                raise ValueError(f"--group: {member} is in {homes[member]} and in {name}")
    return homes


def _relabel(systems: Sequence[System], labels: Sequence[str]) -> None:
    names = {run.name: s for s in systems for run in s.runs} | {s.name: s for s in systems}
    for text in labels:
        fits = [n for n in names if text.startswith(f"{n}=") and text[len(n) + 1 :].strip()]
        if not fits:
            raise ValueError(f"--labels {text!r}: give NAME=LABEL; {_known([], names)}")
        name = max(fits, key=len)  # names may hold "=" too
        names[name].label = " ".join(text[len(name) + 1 :].split())


def find_system(systems: Sequence[System], word: str) -> System:
    """Return the system that a name, a label or one of its experiments' names means.

    Raises:
        ValueError: There is none; names those there are.
    """
    for system in systems:
        if word in (system.name, system.label, *(run.name for run in system.runs)):
            return system
    raise ValueError(_known([word], [s.name for s in systems]))


def _known(unknown: Sequence[str], names: Iterable[str]) -> str:
    text = f"{', '.join(unknown)}: no such experiment here; " if unknown else ""
    return f"{text}there are: {', '.join(sorted(names))}"
