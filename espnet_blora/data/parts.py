"""Parts and unions of Kaldi data directories; `utt2lang` is never lost on the way."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from espnet_blora.data import kaldi
from espnet_blora.utils.keyed import read_keyed, write_keyed

log = logging.getLogger(__name__)

_NEEDED = ("text", "utt2spk", "utt2lang")
_OPTIONAL = ("utt2dur",)


def _read(directory: Path) -> dict[str, dict[str, str]]:
    """Every file of a directory that this module knows, by name."""
    files = {name: read_keyed(directory / name) for name in ("wav.scp", *_NEEDED)}
    for name in ("segments", *_OPTIONAL):
        if (directory / name).exists():
            files[name] = read_keyed(directory / name)
    return files


def write(directory: Path, files: Mapping[str, Mapping[str, str]]) -> None:
    """Write a directory anew from what each of its files holds, `spk2utt` excepted.

    `wav.scp`, which says that the directory is complete, comes last.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("wav.scp", "segments", *_OPTIONAL):
        (directory / name).unlink(missing_ok=True)
    for name, keyed in files.items():
        if name != "wav.scp":
            write_keyed(directory / name, keyed)
    kaldi.write_spk2utt(directory)
    write_keyed(directory / "wav.scp", files["wav.scp"])


def subset(source: str | Path, target: str | Path, ids: Iterable[str]) -> None:
    """Write the utterances `ids` of one data directory as another.

    Raises: ValueError if `ids` is empty or holds one the source lacks.
    """
    source, ids = Path(source), list(ids)
    files = _read(source)
    known = files["text"]
    if missing := [key for key in ids if key not in known]:
        raise ValueError(f"{source}: no utterance {kaldi.name_some(missing)}")
    if not ids:
        raise ValueError(f"{source}: an empty part was asked for")
    part = {
        name: {key: keyed[key] for key in ids} for name, keyed in files.items() if name != "wav.scp"
    }
    whole = files["wav.scp"]
    wanted = [row.split()[0] for row in part["segments"].values()] if "segments" in part else ids
    write(Path(target), {**part, "wav.scp": {key: whole[key] for key in wanted}})


def copy(source: str | Path, target: str | Path, prefix: str = "") -> None:
    """Copy a data directory, with `prefix` before every utterance, speaker and recording."""
    files = _read(Path(source))
    renamed = {name: {prefix + k: v for k, v in keyed.items()} for name, keyed in files.items()}
    for name in ("utt2spk", "segments"):
        if name in renamed:
            renamed[name] = {key: prefix + value for key, value in renamed[name].items()}
    write(Path(target), renamed)


def combine(sources: Sequence[str | Path], target: str | Path) -> None:
    """Write the union of several data directories.

    A recording may occur in several, if all say the same of it. `utt2dur` is written where every
    source has one.

    Raises: ValueError for no sources, for an utterance in two of them, for a recording of which two
    say different things, for a mixture of directories with and without segments, or for speakers
    whose order differs from that of their utterances.
    """
    if not sources:
        raise ValueError(f"{target}: nothing to combine")
    read = {str(source): _read(Path(source)) for source in sources}
    if len(read) < len(sources):
        raise ValueError(f"{target}: a directory is named twice: {', '.join(map(str, sources))}")
    cut = [source for source, files in read.items() if "segments" in files]
    if cut and len(cut) < len(read):
        whole = [source for source in read if source not in cut]
        raise ValueError(
            f"{target}: {', '.join(cut)} have segments and {', '.join(whole)} have none; "
            "prepare all of one kind"
        )
    union: dict[str, dict[str, str]] = {}
    for name in ("wav.scp", *_NEEDED, *(["segments"] if cut else []), *_OPTIONAL):
        lacking = [source for source, files in read.items() if name not in files]
        if lacking:
            if len(lacking) < len(read):
                log.warning(f"{target}: no {name}, since {', '.join(lacking)} have none")
            continue
        shared = name == "wav.scp" and bool(cut)
        union[name] = _union(name, {source: f[name] for source, f in read.items()}, shared)
    if pair := kaldi.misplaced_speaker(union["utt2spk"]):
        raise ValueError(
            f"{target}: sorted by id, speaker {pair[1]!r} comes after {pair[0]!r}, which Kaldi's "
            "tools refuse; copy one of the directories with a prefix first"
        )
    write(Path(target), union)


def _union(name: str, keyed: Mapping[str, Mapping[str, str]], shared: bool) -> dict[str, str]:
    """One file of several directories; a key may be `shared` if its values are the same."""
    union: dict[str, str] = {}
    owner: dict[str, str] = {}
    clashes: dict[tuple[str, str], list[str]] = {}
    for source, lines in keyed.items():
        for key, value in lines.items():
            if key in union and not (shared and union[key] == value):
                clashes.setdefault((owner[key], source), []).append(key)
            union[key], owner[key] = value, source
    if clashes:
        said = "; ".join(
            f"{first} and {second} both have {kaldi.name_some(keys)}"
            for (first, second), keys in clashes.items()
        )
        raise ValueError(f"{name}: {said}; copy one of them with a prefix first")
    return union


def durations(directory: str | Path) -> dict[str, float]:
    """Seconds of every utterance: from `utt2dur`, or else from the audio.

    Raises: ValueError for a number that is none or not above 0, or audio that cannot be looked at.
    """
    directory = Path(directory)
    path = directory / "utt2dur"
    if not path.exists():
        return kaldi.look_at_durations(directory)
    seconds = {}
    for key, value in read_keyed(path).items():
        try:
            seconds[key] = float(value)
        except ValueError as error:
            raise ValueError(f"{path}: {key!r} has {value!r}; seconds are expected") from error
        if not 0 < seconds[key] < float("inf"):
            raise ValueError(f"{path}: {key!r} lasts {value} s")
    return seconds


def write_utt2dur(directory: str | Path) -> None:
    """Write `utt2dur` from the audio, in seconds."""
    found = kaldi.look_at_durations(Path(directory))
    write_keyed(Path(directory, "utt2dur"), {key: f"{dur:.4f}" for key, dur in found.items()})


def first(directory: str | Path, n: int) -> list[str]:
    """The ids of the first `n` utterances.

    Raises: ValueError if there are fewer.
    """
    ids = list(read_keyed(Path(directory, "text")))
    if not 0 < n <= len(ids):
        raise ValueError(f"{directory}: first {n} of {len(ids)} utterances were asked for")
    return ids[:n]


def lasting(
    directory: str | Path, shortest: float = 0.0, longest: float = float("inf")
) -> list[str]:
    """The ids of the utterances that last from `shortest` to `longest` seconds, both kept."""
    spans = durations(directory)
    return [key for key in kaldi.c_sorted(spans) if shortest <= spans[key] <= longest]


def up_to(directory: str | Path, seconds: float, seed: int | None = None) -> list[str]:
    """The ids of utterances that last no more than `seconds` together, sorted.

    They are taken in their order, or with `seed` in a random one that depends on nothing but the
    ids and the seed; the first that does not fit ends it.
    """
    spans = durations(directory)
    ids = kaldi.c_sorted(spans)
    if seed is not None:
        random.Random(seed).shuffle(ids)
    chosen, total = [], 0.0
    for key in ids:
        total += spans[key]
        if total > seconds + 1e-6:
            break
        chosen.append(key)
    return kaldi.c_sorted(chosen)
