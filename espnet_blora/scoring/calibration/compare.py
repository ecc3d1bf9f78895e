"""Calibration of systems on the same utterances: figures, intervals, differences, a file.

Intervals are bootstrap percentiles over utterances (or whole speakers), as these figures are not
linear in counts (Bisani and Ney, ICASSP 2004). Every system is recomputed on the same draws; the
difference of two systems is taken draw by draw. The edges of bins of equal mass stay those of the
set. A bootstrapped ECE has the bias of a small sample once more, so its interval lies high; where
only the order of two systems matters, their difference, the Brier score and the NLL are the safer
figures.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from espnet_blora.scoring.calibration.measures import BINS, Bin, bins_of, by_chance, figures
from espnet_blora.scoring.calibration.platt import fit_map
from espnet_blora.scoring.calibration.risk_coverage import areas, curve, oracle_order
from espnet_blora.scoring.calibration.words import (
    UNCERTAINTIES,
    LabelledTokens,
    label_tokens,
    read_confidences,
)
from espnet_blora.scoring.intervals import Interval
from espnet_blora.scoring.set_score import reading
from espnet_blora.utils import atomic
from espnet_blora.utils.keyed import KeyedText

FORMAT = "espnet_blora.calibration/1"
_CHUNK = 2_000_000  # random numbers held at a time
SHARE, NUMBER = "%", ""


@dataclass(frozen=True)
class Measure:
    """A figure's name and meaning.

    Attributes:
        title: What it is called.
        unit: `%` or none.
        better: -1 where less of it is better, 1 where more is, else 0.
    """

    title: str
    unit: str
    better: int


MEASURES = {
    "mer": Measure("error rate", SHARE, -1),
    "accuracy": Measure("tokens right", SHARE, 1),
    "ece": Measure("ECE, bins of equal width", SHARE, -1),
    "ece_mass": Measure("ECE, bins of equal mass", SHARE, -1),
    "gap": Measure("confidence - accuracy", SHARE, 0),
    "brier": Measure("Brier score", NUMBER, -1),
    "reliability": Measure("Brier: reliability", NUMBER, -1),
    "resolution": Measure("Brier: resolution", NUMBER, 1),
    "uncertainty": Measure("Brier: uncertainty", NUMBER, 0),
    "within": Measure("Brier: within bins", NUMBER, 0),
    "nll": Measure("NLL, nats per token", NUMBER, -1),
    "auroc": Measure("AUROC, wrong tokens", SHARE, 1),
    "aupr": Measure("AUPR, wrong tokens", SHARE, 1),
    "area_oracle": Measure("risk-coverage area of the oracle", SHARE, 0),
    **{f"area_{n}": Measure(f"risk-coverage area, {n}", SHARE, -1) for n in UNCERTAINTIES},
    **{f"excess_{n}": Measure(f"area above the oracle's, {n}", SHARE, -1) for n in UNCERTAINTIES},
    **{f"ratio_{n}": Measure(f"rejection ratio, {n}", SHARE, 1) for n in UNCERTAINTIES},
}


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval; None is undefined."""

    value: float | None
    interval: Interval | None = None

    @property
    def sign(self) -> int:
        """1 or -1 where the whole interval lies on one side of 0, else 0."""
        if self.interval is None:
            return 0
        return (self.interval.low > 0) - (self.interval.high < 0)


@dataclass(frozen=True)
class Calibration:
    """One system on one set.

    Attributes:
        name: Of the system.
        utterances: Their number.
        words: Number of hypothesis tokens.
        wrong: Those that are wrong.
        deletions: Reference tokens that are missing.
        removed: Words of the file of which normalisation left nothing.
        estimates: A key of `MEASURES` -> figure.
        bins: Of equal width.
        curves: `oracle` and every uncertainty -> risk at coverage 0, 0.01, ..., 1.
        chance: Mean and 97.5 % point of the ECE by chance alone; None without words.
        note: What was done to the confidences, such as a map.
    """

    name: str
    utterances: int
    words: int
    wrong: int
    deletions: int
    removed: int
    estimates: Mapping[str, Estimate]
    bins: tuple[Bin, ...]
    curves: Mapping[str, Sequence[float | None]]
    chance: tuple[float, float] | None
    note: str = ""


@dataclass(frozen=True)
class Difference:
    """`a` minus `b`, figure by figure, with intervals over the same draws."""

    a: str
    b: str
    estimates: Mapping[str, Estimate]


@dataclass(frozen=True)
class Examined:
    """Systems on the same utterances, and the differences of all pairs.

    Attributes:
        systems: One by one.
        differences: Of all pairs.
        unit: How both sides were cut into tokens.
        normalisation: How both sides were treated.
        resampled: What was drawn, `utterance` or `speaker`.
        samples: Number of draws.
    """

    systems: tuple[Calibration, ...]
    differences: tuple[Difference, ...]
    unit: str
    normalisation: str
    resampled: str
    samples: int

    def save(self, path: str | Path, **extra: object) -> None:
        """Write `calibration.json`; `extra` goes in as it is."""
        document = {"format": FORMAT, **asdict(self), **extra}
        text = json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False)
        atomic.write(path, text + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Examined:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: The file is not there.
            ValueError: It is not such a file, or one of another release.
        """
        with reading(path, FORMAT, "calibrate") as document:
            return cls(
                tuple(_calibration(one) for one in document["systems"]),
                tuple(
                    Difference(one["a"], one["b"], _estimates(one["estimates"]))
                    for one in document["differences"]
                ),
                *(document[k] for k in ("unit", "normalisation", "resampled", "samples")),
            )


def examine(
    systems: Sequence[tuple[str, LabelledTokens]],
    groups: Mapping[str, str] | None = None,
    samples: int = 1000,
    seed: int = 0,
    bins: int = BINS,
    notes: Mapping[str, str] | None = None,
) -> Examined:
    """Compute every figure of every system with intervals, and the differences of all pairs.

    Args:
        systems: (name, labelled tokens).
        groups: Id -> speaker (or any group): whole groups are drawn.
        samples: Number of draws.
        seed: Of the draws.
        bins: Number of bins of confidence.
        notes: Name -> what was done to the confidences.

    Raises:
        ValueError: There is no system, a name stands twice, systems have other utterances,
            references, units or normalisations, or utterances have no group.
    """
    # every figure of the set itself (the first weights) and of every draw
    _comparable(systems)
    first = systems[0][1]
    draw_weights = resampled(first.ids, groups, samples, seed)
    every = np.concatenate([np.ones((1, len(first.ids))), *draw_weights])  # (1 + draws, U)
    drawn = {name: {**figures(m, every, bins), **areas(m, every)} for name, m in systems}
    # systems, one by one and in pairs
    calibrations = tuple(
        Calibration(
            name,
            len(labelled.ids),
            len(labelled.owner),
            int((~labelled.right).sum()),
            int(labelled.deletions.sum()),
            labelled.removed,
            {key: _estimate(values) for key, values in drawn[name].items()},
            bins_of(labelled, bins),
            {
                "oracle": curve(labelled, oracle_order(labelled)),
                **{key: curve(labelled, values) for key, values in labelled.uncertainty.items()},
            },
            by_chance(labelled, bins),
            (notes or {}).get(name, ""),
        )
        for name, labelled in systems
    )
    differences = tuple(
        Difference(
            a, b, {k: _estimate(drawn[a][k] - drawn[b][k]) for k in drawn[a] if k in drawn[b]}
        )
        for (b, _), (a, _) in combinations(systems, 2)
    )
    how = "utterance" if groups is None else "speaker"
    return Examined(calibrations, differences, first.unit, first.normalisation, how, samples)


def examine_files(
    references: Path,
    files: Mapping[str, Path],
    fit_references: Path | None,
    fit_files: Mapping[str, Path],
    *,
    unit: str,
    normalisation: str,
    utt2spk: Path | None = None,
    samples: int = 1000,
    seed: int = 0,
    bins: int = BINS,
) -> Examined:
    """Examine systems by their files of confidences, and once more those with a fitted map.

    Args:
        references: Kaldi text file of the set, or a folder that has one.
        files: Name of a system -> its file of confidences (`words`).
        fit_references: Those of the validation set on which maps are fitted.
        fit_files: Name of a system -> its file of confidences there.
        unit: A key of `modes.UNITS`.
        normalisation: A name that `text.presets.get_normalisation` knows.
        utt2spk: File of speakers: whole ones are drawn.
        samples: Number of draws.
        seed: Of the draws.
        bins: Number of bins of confidence.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: Files or options do not fit together.
    """
    if bool(fit_files) != bool(fit_references):
        raise ValueError("--fit_references and --fit_words belong together: give both or none")
    if unknown := sorted(fit_files.keys() - files.keys()):
        raise ValueError(f"--fit_words names {', '.join(unknown)}, which --words does not")
    if samples < 1:
        raise ValueError(f"--samples {samples}: 1 or more are needed")

    def labelled(texts: Path, words: Mapping[str, Path]) -> dict[str, LabelledTokens]:
        ref = KeyedText(texts / "text" if texts.is_dir() else texts)
        return {
            name: label_tokens(ref, read_confidences(path), unit, normalisation)
            for name, path in words.items()
        }

    systems, notes = labelled(references, files), {}
    if fit_references is not None:
        for name, valid in labelled(fit_references, fit_files).items():
            fitted, mapped = fit_map(valid), f"{name} + map"
            systems[mapped] = fitted.apply(systems[name])
            notes[mapped] = fitted.describe()
    groups = KeyedText(utt2spk) if utt2spk else None
    return examine(list(systems.items()), groups, samples, seed, bins, notes)


def resampled(
    ids: Sequence[str], groups: Mapping[str, str] | None, samples: int, seed: int
) -> list[np.ndarray]:
    """Return blocks (b, U): how often each utterance is taken in each draw.

    There is none for fewer than two to draw from.

    Raises:
        ValueError: Utterances have no group.
    """
    member = np.arange(len(ids))  # (U,) what is drawn with each utterance
    if groups is not None:
        alone = [key for key in ids if key not in groups]
        if alone:
            raise ValueError(
                f"{len(alone)} utterances have no speaker: {', '.join(alone[:5])}; complete the "
                "utt2spk, or draw utterances"
            )
        member = np.unique([groups[key] for key in ids], return_inverse=True)[1]
    size = int(member.max()) + 1
    if size < 2:
        return []
    blocks = []
    generator = np.random.default_rng(seed)
    block = max(1, _CHUNK // size)
    for start in range(0, samples, block):
        index = generator.integers(0, size, (min(block, samples - start), size))
        flat = index + size * np.arange(len(index))[:, None]
        times = np.bincount(flat.ravel(), minlength=flat.shape[0] * size)
        blocks.append(times.reshape(-1, size)[:, member].astype(np.float64))
    return blocks


def _comparable(systems: Sequence[tuple[str, LabelledTokens]]) -> None:
    if not systems:
        raise ValueError("no system to examine")
    names = [name for name, _ in systems]
    if len(set(names)) < len(names):
        raise ValueError(f"a name stands twice among {', '.join(names)}")
    (name, first), *others = systems
    for other, labelled in others:
        for what in ("unit", "normalisation", "ids"):
            if getattr(labelled, what) != getattr(first, what):
                raise ValueError(f"{name} and {other} differ in {what}: they cannot be compared")
        if not np.array_equal(labelled.tokens, first.tokens):
            raise ValueError(f"{name} and {other} were scored on different references")


def _estimate(values: np.ndarray) -> Estimate:
    """Return the first value, with an interval from the others."""
    if not np.isfinite(values[0]):
        return Estimate(None)
    return Estimate(float(values[0]), quantiles(values[1:]) if len(values) > 1 else None)


def quantiles(values: np.ndarray) -> Interval | None:
    """Return the 2.5 % and 97.5 % points of draws; None if a draw is undefined (NaN, infinite)."""
    if not np.isfinite(values).all():
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return Interval(float(low), float(high))


def _calibration(document: Mapping) -> Calibration:
    rows = document["bins"]
    bins = tuple(Bin(**{**row, "interval": _interval(row["interval"])}) for row in rows)
    chance = document["chance"] and tuple(document["chance"])
    estimates = _estimates(document["estimates"])
    return Calibration(**{**document, "bins": bins, "chance": chance, "estimates": estimates})


def _estimates(rows: Mapping[str, Mapping]) -> dict[str, Estimate]:
    return {k: Estimate(row["value"], _interval(row["interval"])) for k, row in rows.items()}


def _interval(row: Mapping | None) -> Interval | None:
    return None if row is None else Interval(**row)
