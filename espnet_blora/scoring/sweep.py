"""The file of a scale sweep: what each scale scored on each set, and its errors by utterance.

`scale_sweep.json` has one row per scale and set: scale, set, and the summary of the score.
`scale_sweep.npz` beside it has, per set NAME, `NAME/ids` (U,), `NAME/tokens` (U,) and
`NAME/errors` (scales, U), all in int16, in the order of the set's rows. The report needs these
counts to tell a difference between curves from chance. The rows hold their checksum.
`repair_sweep.json` is the same for a repair; its rows also have its strength (`repair`) and the
seconds of old audio that it knows (`old_audio`).
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np

from espnet_blora.scoring.counts import Counts
from espnet_blora.scoring.set_score import SetScore
from espnet_blora.utils import atomic


@dataclass(frozen=True)
class UtteranceErrors:
    """The errors of a set's utterances at one scale, in the order of their ids.

    Attributes:
        shape: (id, reference tokens) by utterance.
        errors: (U,).
    """

    shape: tuple[tuple[str, int], ...]
    errors: np.ndarray


@dataclass(frozen=True)
class SweepRow:
    """One set decoded at one scale.

    The adapter's update is multiplied by `scale`, or the weights of a fully fine-tuned model are
    interpolated with the base's.

    Attributes:
        detail: Errors by utterance; None in a sweep of an older release.
        repair: Strength of the repair; 0 is none.
        old_audio: Seconds of audio that the repair was told to keep.
    """

    scale: float
    set: str
    unit: str
    normalisation: str
    utterances: int
    counts: Counts
    rate: float
    detail: UtteranceErrors | None = field(default=None, compare=False, repr=False)
    repair: float = 0.0
    old_audio: float | None = None


def save_sweep(path: Path, rows: Sequence[tuple[Mapping[str, float | str], SetScore]]) -> None:
    """Write a sweep's rows to `path`, and its counts by utterance to the `.npz` beside it.

    Args:
        path: Of the JSON file.
        rows: (scale, set and whatever else the row says, score); every set at every point.
    """
    # counts by utterance
    arrays: dict[str, np.ndarray] = {}
    for name in dict.fromkeys(row["set"] for row, _ in rows):
        utterances = [score.utterances for row, score in rows if row["set"] == name]
        arrays[f"{name}/ids"] = np.array([u.id for u in utterances[0]])
        arrays[f"{name}/tokens"] = _compact([u.tokens for u in utterances[0]])
        arrays[f"{name}/errors"] = _compact([[u.errors for u in point] for point in utterances])
    packed = io.BytesIO()
    np.savez_compressed(packed, allow_pickle=False, **arrays)
    # the rows last: they name their counts
    atomic.write(path.with_suffix(".npz"), packed.getvalue())
    digest = hashlib.sha256(packed.getvalue()).hexdigest()
    whole = [{**row, **score.summary(), "counts_sha256": digest} for row, score in rows]
    atomic.write(path, json.dumps(whole, indent=1) + "\n")


def _compact(counts: Sequence) -> np.ndarray:
    values = np.array(counts, dtype=np.int64)
    return values.astype(np.int16 if values.max(initial=0) < 2**15 else np.int32)


def load_sweep(path: Path) -> list[SweepRow]:
    """Read the rows of a sweep, with their counts by utterance.

    Raises:
        FileNotFoundError: `path` is not there.
        ValueError: It is not such a file, or its counts are gone, damaged or of another sweep.
    """
    keys = ("scale", "set", "unit", "normalisation", "num_utterances")
    rows = []
    try:
        document = json.loads(path.read_text("utf-8"))
        digests = {entry.get("counts_sha256") for entry in document}
        details = _details(path.with_suffix(".npz"), digests) if digests - {None} else {}
        for entry in document:
            counts = Counts(*(entry[f.name] for f in fields(Counts)))
            scale, name, unit, normalisation, number = (entry[key] for key in keys)
            detail = next(details[name], None) if details else None
            if detail is not None and int(detail.errors.sum()) != counts.errors:
                raise ValueError(f"{name} at scale {scale:g}: its counts by utterance are others")
            if counts.rate is not None:
                how = (unit, normalisation, number, counts, counts.rate)
                more = (float(entry.get("repair", 0.0)), entry.get("old_audio"))
                rows.append(SweepRow(scale, name, *how, detail, *more))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        said = str(error) if isinstance(error, ValueError) else repr(error)
        raise ValueError(
            f"{path} cannot be read ({said}): decode it anew with espnet-blora sweep"
        ) from error
    return sorted(rows, key=lambda row: (row.scale, row.set))


def _details(path: Path, digests: Set[str | None]) -> dict[str, Iterator[UtteranceErrors]]:
    """Return set -> its counts by utterance, in the order of its rows.

    Raises:
        ValueError: The file is not there, or not the one that the rows name.
    """
    packed = path.read_bytes() if path.is_file() else b""
    if digests != {hashlib.sha256(packed).hexdigest()}:
        fault = "is damaged or of another sweep" if packed else "is not there"
        raise ValueError(f"{path.name}, the counts by utterance, {fault}")
    details = {}
    with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
        for name in (key.removesuffix("/errors") for key in arrays if key.endswith("/errors")):
            ids, tokens = (arrays[f"{name}/{what}"].tolist() for what in ("ids", "tokens"))
            shape = tuple(zip(ids, tokens, strict=True))
            points = [UtteranceErrors(shape, errors) for errors in arrays[f"{name}/errors"]]
            details[name] = iter(points)
    return details
