"""Kaldi data directories: writing, checking, durations.

A data directory holds `key value` files, one utterance (or speaker) per line, sorted by the key's
bytes (`LC_ALL=C`): `wav.scp`, `text`, `utt2spk`, `spk2utt` and, in this project,
`utt2lang` with one Whisper language code per utterance.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Collection, Container, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from espnet_blora.data import audio
from espnet_blora.utils.keyed import c_sorted, read_keyed, write_keyed

log = logging.getLogger(__name__)

_ODD_BLANK = re.compile(r"[^\S \t]")
_SHOWN = 10  # ids named in a message; the rest is counted


def misplaced_speaker(utt2spk: Mapping[str, str]) -> tuple[str, str] | None:
    """Return two speakers whose order differs from that of their utterances' ids, if there are any.

    Kaldi's tools need both orders to agree.

    >>> misplaced_speaker({"a-1": "a", "a.b-1": "a.b"})
    >>> misplaced_speaker({"a-1": "a-1", "a.b-1": "a"})
    ('a-1', 'a')
    """
    order = [utt2spk[key] for key in c_sorted(utt2spk)]
    for before, after in pairwise(order):
        if before.encode("utf-8") > after.encode("utf-8"):
            return before, after
    return None


def write(directory: str | Path, files: Mapping[str, Mapping[str, str]]) -> None:
    """Write a data directory anew from what each of its files holds, `spk2utt` excepted.

    `wav.scp`, which says that the directory is complete, comes last.

    Args:
        directory: It is made if it is not there.
        files: File name -> its lines as key -> value; `wav.scp` and `utt2spk` are needed.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("wav.scp", "segments", "utt2dur"):
        (directory / name).unlink(missing_ok=True)
    for name, lines in files.items():
        if name != "wav.scp":
            write_keyed(directory / name, lines)
    ids: dict[str, list[str]] = {}
    for utterance in c_sorted(files["utt2spk"]):
        ids.setdefault(files["utt2spk"][utterance], []).append(utterance)
    write_keyed(directory / "spk2utt", {speaker: " ".join(ids[speaker]) for speaker in ids})
    write_keyed(directory / "wav.scp", files["wav.scp"])


def write_data_dir(
    directory: str | Path,
    wav: Mapping[str, str],
    text: Mapping[str, str],
    utt2spk: Mapping[str, str],
    utt2lang: Mapping[str, str],
    utt2dur: Mapping[str, float] | None = None,
) -> None:
    """Write a whole data directory; each mapping is utterance -> value, `utt2dur` in seconds."""
    files: dict[str, Mapping[str, str]] = {
        "text": text,
        "utt2spk": utt2spk,
        "utt2lang": utt2lang,
        "wav.scp": wav,
    }
    if utt2dur is not None:
        files["utt2dur"] = {key: f"{seconds:.4f}" for key, seconds in utt2dur.items()}
    write(directory, files)


def read_utt2lang(path: str | Path, allowed: Collection[str] | None = None) -> dict[str, str]:
    """Read `utt2lang`: one Whisper language code per utterance.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is malformed, a code is empty, or outside `allowed`; names the
            utterance.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"{path}: no such file; it holds each utterance's Whisper language code. If all are "
            "Mandarin, in that folder: awk '{print $1, \"zh\"}' text > utt2lang"
        )
    result = read_keyed(path)
    for key, code in result.items():
        if not code:
            raise ValueError(f"{path}: {key!r} has no language; write a Whisper code such as 'en'")
        if allowed is not None and code not in allowed:
            raise ValueError(
                f"{path}: {key!r} has language {code!r}; allowed: {', '.join(sorted(allowed))}"
            )
    return result


@dataclass(frozen=True)
class Summary:
    """Counts of a good data directory; `seconds` is 0 if its audio was not looked at."""

    utterances: int
    speakers: int
    languages: dict[str, int]
    seconds: float


def name_some(ids: Collection[str]) -> str:
    """Name the first ids and count the rest, for a message."""
    shown = ", ".join(c_sorted(ids)[:_SHOWN])
    return shown + (f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else "")


class Segment(NamedTuple):
    """One line of `segments`, times in seconds; `where` is its place, or its file."""

    recording: str
    start: float
    end: float
    where: str


def parse_segment(
    where: str, key: str, value: str, recordings: Container[str] | None = None
) -> Segment:
    """Read one line of `segments`; a fourth field (Kaldi's channel) does not count.

    Args:
        where: Begins the message, such as `file:line`.
        key: The utterance.
        value: The rest of the line.
        recordings: Those that there are; None if any will do.

    Raises:
        ValueError: The line is malformed, or its recording is not there.
    """
    fields = value.split()
    try:
        segment = Segment(fields[0], float(fields[1]), float(fields[2]), where)
    except (IndexError, ValueError) as error:
        raise ValueError(
            f"{where}: {key} has {value!r}; expected '<recording> <start s> <end s>'"
        ) from error
    if recordings is not None and segment.recording not in recordings:
        raise ValueError(f"{where}: {key} is cut from {segment.recording!r}, not in wav.scp")
    return segment


def read_segments(directory: Path, recordings: Mapping[str, str]) -> dict[str, Segment] | None:
    """Read `segments`; None if it is not there.

    Raises:
        ValueError: As of `parse_segment`.
    """
    path = directory / "segments"
    if not path.exists():
        return None
    return {
        key: parse_segment(str(path), key, value, recordings)
        for key, value in read_keyed(path).items()
    }


def validate(
    directory: str | Path,
    languages: Collection[str] | None = None,
    check_audio: bool = True,
    min_seconds: float = 0.1,
    max_seconds: float | None = None,
    mono_16k: bool = False,
) -> Summary:
    """Check a data directory whole, and name everything that is wrong with it in one error.

    Every utterance of `wav.scp` (of `segments` where there is one) must have a text, a speaker
    and a language, and the reverse; files must be such that Kaldi's own check takes them (sorted,
    spk2utt as utt2spk, plain blanks); every audio file must be readable and last at least
    `min_seconds`, and at most `max_seconds` if that is given; with `mono_16k` it must have
    16 kHz and one channel. Entries of wav.scp that are pipes or archive offsets cannot be looked
    at and are counted in the log.

    Raises:
        FileNotFoundError: A file of the directory is not there.
        ValueError: Anything else is wrong; lists the ids.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise FileNotFoundError(f"{directory}: no such data directory; run stage 1 first")
    # Read all files; each must be well-formed by itself.
    recordings = read_keyed(directory / "wav.scp")
    if not recordings:
        raise ValueError(f"{directory}/wav.scp: no utterances")
    segments = read_segments(directory, recordings)
    ids = set(recordings if segments is None else segments)
    audio_file = "wav.scp" if segments is None else "segments"
    text = read_keyed(directory / "text")
    speakers = read_keyed(directory / "utt2spk")
    codes = read_utt2lang(directory / "utt2lang", languages)
    # Do they belong together?
    problems = []
    for name, keyed in (("text", text), ("utt2spk", speakers), ("utt2lang", codes)):
        if missing := ids - set(keyed):
            problems.append(f"in {audio_file} but not in {name}: {name_some(missing)}")
        if extra := set(keyed) - ids:
            problems.append(f"in {name} but not in {audio_file}: {name_some(extra)}")
    for name, keyed in (("text", text), ("utt2spk", speakers), ("wav.scp", recordings)):
        if empty := [key for key, value in keyed.items() if not value]:
            problems.append(f"empty in {name}: {name_some(empty)}")
    problems += _refused_by_kaldi(
        directory, {"wav.scp": recordings, "text": text, "utt2spk": speakers, "utt2lang": codes}
    )
    # Can the audio be used?
    seconds = 0.0
    if check_audio:
        spans = _durations(directory, recordings, segments, problems, mono_16k)
        seconds = sum(spans.values())
        if short := [key for key, span in spans.items() if span < min_seconds]:
            problems.append(f"shorter than {min_seconds} s: {name_some(short)}")
        longest = float("inf") if max_seconds is None else max_seconds
        if long := [key for key, span in spans.items() if span > longest]:
            problems.append(f"longer than {max_seconds} s (cut these): {name_some(long)}")
    if problems:
        raise ValueError(
            f"{directory}: bad data directory; repair or remove these utterances:\n  "
            + "\n  ".join(problems)
        )
    counts = dict(Counter(codes.values()))
    return Summary(len(ids), len(set(speakers.values())), counts, seconds)


def _refused_by_kaldi(directory: Path, files: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Yield what Kaldi's validate_data_dir.sh would stop at, in the middle of stage 3."""
    # order
    for name, keyed in files.items():
        for before, after in pairwise(keyed):
            if before.encode("utf-8") > after.encode("utf-8"):
                yield f"{name} is not sorted by id (LC_ALL=C sort -k1,1): {after} after {before}"
                break
    if pair := misplaced_speaker(files["utt2spk"]):
        yield (
            f"sorted by utterance, speaker {pair[1]} comes after {pair[0]}: begin each "
            "utterance's id with its speaker's"
        )
    # characters
    if odd := [key for key, value in files["text"].items() if _ODD_BLANK.search(value)]:
        yield f"blanks other than a space or TAB (such as U+00A0) in text: {name_some(odd)}"
    # speakers
    if not (directory / "spk2utt").is_file():
        yield "no spk2utt: make it with utils/utt2spk_to_spk2utt.pl utt2spk > spk2utt"
        return
    listed = {
        key: speaker
        for speaker, ids in read_keyed(directory / "spk2utt").items()
        for key in ids.split()
    }
    wrong = dict(files["utt2spk"].items() ^ listed.items())
    if wrong:
        yield f"other speakers in spk2utt than in utt2spk: {name_some(wrong)}"


def _durations(
    directory: Path,
    recordings: Mapping[str, str],
    segments: Mapping[str, Segment] | None,
    problems: list[str],
    mono_16k: bool = False,
) -> dict[str, float]:
    """Return the seconds of every utterance whose audio can be looked at.

    Audio that cannot be read is added to `problems`.
    """
    # Length and form of every recording, from its header.
    spans: dict[str, float] = {}
    other_forms: dict[tuple[int, int], list[str]] = {}
    unseen = 0
    for key, place in recordings.items():
        if not place:
            continue
        if place.endswith("|") or audio.is_archive_offset(place):
            unseen += 1
            continue
        try:
            spans[key], rate, channels = audio.look(place)
        except (FileNotFoundError, ValueError) as error:
            problems.append(f"audio of {key}: {error}")
            continue
        if mono_16k and (rate, channels) != (audio.SAMPLE_RATE, 1):
            other_forms.setdefault((rate, channels), []).append(key)
    for (rate, channels), keys in other_forms.items():
        problems.append(
            f"{rate} Hz with {channels} channels instead of 16 kHz mono (convert these: "
            f"ffmpeg -i OLD -ar 16000 -ac 1 NEW.wav): {name_some(keys)}"
        )
    if unseen:
        log.warning(f"{directory}/wav.scp: {unseen} entries are pipes or archives; not checked")
    if segments is None:
        return spans
    # Length of every segment; the last one of a recording may end a little later than it.
    cut = {}
    for key, (recording, start, end, _) in segments.items():
        whole = spans.get(recording)
        if not 0 <= start < end or (whole is not None and start >= whole):
            problems.append(f"segment {key}: {start}-{end} s is not within {recording} ({whole} s)")
        else:
            cut[key] = (end if whole is None else min(end, whole)) - start
    return cut


def durations(directory: str | Path) -> dict[str, float]:
    """Return the seconds of every utterance: from `utt2dur`, or else from the audio's headers.

    Raises:
        ValueError: A line of `utt2dur` holds no number above 0, or audio cannot be looked at; all
            such audio is listed.
    """
    directory = Path(directory)
    path = directory / "utt2dur"
    if not path.exists():
        return _durations_of_audio(directory)
    seconds = {}
    for key, value in read_keyed(path).items():
        try:
            seconds[key] = float(value)
        except ValueError as error:
            raise ValueError(f"{path}: {key!r} has {value!r}; seconds are expected") from error
        if not 0 < seconds[key] < float("inf"):
            raise ValueError(f"{path}: {key!r} lasts {value} s")
    return seconds


def _durations_of_audio(directory: Path) -> dict[str, float]:
    """Return the seconds of every utterance, from its audio's header."""
    recordings = read_keyed(directory / "wav.scp")
    segments = read_segments(directory, recordings)
    problems: list[str] = []
    spans = _durations(directory, recordings, segments, problems)
    ids = set(recordings if segments is None else segments)
    if not problems and (unseen := ids - set(spans)):
        problems.append(f"no audio files to look at: {name_some(unseen)}")
    if problems:
        raise ValueError(f"{directory}: durations cannot be known:\n  " + "\n  ".join(problems))
    return spans
