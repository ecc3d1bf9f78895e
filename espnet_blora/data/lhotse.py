"""Manifests of lhotse, to and from Kaldi data directories; lhotse itself is not needed.

They are JSON lines, often gzipped: recordings and supervisions, or cuts that hold both. A recording
is a file; what lhotse makes in memory (speed, mixtures, features alone) has none, and is left out.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from espnet_blora.data import audio, kaldi
from espnet_blora.data.corpora.common import whisper_code
from espnet_blora.data.kaldi import Segment
from espnet_blora.data.records import Ledger
from espnet_blora.utils import atomic
from espnet_blora.utils.keyed import read_keyed

_ENDS = (".jsonl", ".jsonl.gz")


def import_manifests(
    source: Path, directory: Path, ledger: Ledger, language: str, names: Mapping[str, str]
) -> int:
    """Write a data directory of a folder with recordings and supervisions, or of cuts.

    Audio is neither opened nor copied. Ids get the speaker in front, as Kaldi's order needs it.

    Args:
        source: A file of cuts, or a folder with one `*recordings*` and one `*supervisions*`, or
            one `*cuts*`.
        directory: Is written.
        ledger: Gets what cannot be used.
        language: Whisper's code of utterances that name none, or "".
        names: Languages as lhotse's recipes write them out, in lower case -> Whisper's code.

    Returns:
        The number of utterances.

    Raises:
        FileNotFoundError: There are no manifests.
        ValueError: A line is damaged, an id occurs twice, a language is none of Whisper's, or
            nothing can be used; names file and line.
    """
    files: dict[str, dict[str, str]] = {
        name: {} for name in ("text", "utt2spk", "utt2lang", "segments", "wav.scp")
    }
    for where, recording, segment in _segments(source):
        uid, text = str(segment["id"]), " ".join(str(segment.get("text") or "").split())
        place, why = _file_of(recording)
        if why or not text:
            ledger.skip(where, uid, why or "empty text", str(recording.get("id")))
            continue
        spoken = str(segment.get("language") or language)
        code = whisper_code(spoken) or names.get(spoken.lower())
        if code is None:
            raise ValueError(
                f"{where}: language {spoken!r} of {uid} is none of Whisper's; --language CODE is "
                "for utterances that name none"
            )
        speaker = "".join(str(segment.get("speaker") or "unknown").split())
        uid = uid if uid.startswith(f"{speaker}-") else f"{speaker}-{uid}"
        if uid in files["text"]:
            raise ValueError(f"{where}: {uid} occurs twice")
        name = "".join(str(recording["id"]).split())
        start = float(segment["start"])
        files["wav.scp"][name] = place
        files["segments"][uid] = f"{name} {start:.4f} {start + float(segment['duration']):.4f}"
        files["text"][uid], files["utt2spk"][uid], files["utt2lang"][uid] = text, speaker, code
    if not files["text"]:
        raise ValueError(
            f"{source}: no utterance can be used: {ledger.counts() or 'none is there'}"
        )
    kaldi.write(directory, files)
    return len(files["text"])


def _file_of(recording: Mapping[str, Any]) -> tuple[str, str]:
    """Return the audio file of a recording, or why there is none that can be used."""
    sources = recording.get("sources") or [{}]
    if recording.get("transforms"):
        return "", "audio that lhotse computes (transforms)"
    if len(sources) > 1 or sources[0].get("type") != "file":
        return "", "not one audio file"
    if len(recording.get("channel_ids") or [0]) > 1:
        return "", "more than one channel: write one file per channel"
    return str(sources[0]["source"]), ""


def _segments(source: Path) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Yield place, recording and supervision, with its start in the recording."""
    try:
        cuts = source if source.is_file() else _manifest(source, "cuts")
        if cuts is not None:
            for where, cut in _lines(cuts):
                recording = cut.get("recording") or {"id": cut.get("id")}
                for segment in cut.get("supervisions") or ():
                    yield where, recording, segment | {"start": cut["start"] + segment["start"]}
            return
        recordings, segments = (_manifest(source, kind) for kind in ("recordings", "supervisions"))
        if recordings is None or segments is None:
            raise FileNotFoundError(
                f"{source}: no manifests of lhotse: *cuts*.jsonl, or *recordings*.jsonl and "
                "*supervisions*.jsonl, each perhaps with .gz, are expected"
            )
        known = {recording["id"]: recording for _, recording in _lines(recordings)}
        for where, segment in _lines(segments):
            if segment["recording_id"] not in known:
                raise ValueError(f"{where}: recording {segment['recording_id']} is in no manifest")
            yield where, known[segment["recording_id"]], segment
    except KeyError as error:
        raise ValueError(f"{source}: not a manifest of lhotse's: no key {error}") from error


def _manifest(folder: Path, kind: str) -> Path | None:
    """Return the one manifest of a kind in a folder; None if there is none."""
    found = sorted(path for end in _ENDS for path in folder.glob(f"*{kind}*{end}"))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ValueError(f"{folder}: holds {names}; give a folder with one of each kind")
    return found[0] if found else None


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the objects of a manifest with their places."""
    opened = gzip.open if path.suffix == ".gz" else open
    number = 0
    try:
        with opened(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield f"{path}:{number}", dict(json.loads(line))
    except (ValueError, TypeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}:{number}: damaged, or not JSON lines: {error}") from error


def export_manifests(directory: Path, folder: Path) -> int:
    """Write a data directory as recordings.jsonl.gz and supervisions.jsonl.gz in a new folder.

    Returns:
        The number of utterances.

    Raises:
        FileNotFoundError: A file of the directory, or of its audio, is not there.
        ValueError: It is malformed, or wav.scp holds a pipe or a place in an archive.
        OSError: The folder is not empty, or cannot be written.
    """
    names = ("text", "utt2spk", "utt2lang")
    text, speakers, languages = (read_keyed(directory / name) for name in names)
    places = read_keyed(directory / "wav.scp")
    recordings: dict[str, dict[str, Any]] = {}
    for name, place in places.items():
        if place.endswith("|") or audio.is_archive_offset(place):
            raise ValueError(f"{directory}/wav.scp: {name!r} is not a file: {place!r}")
        seconds, rate, count = audio.look(place)
        channels = list(range(count))
        origin = {"type": "file", "channels": channels, "source": os.path.abspath(place)}
        recordings[name] = {
            "id": name, "sources": [origin], "sampling_rate": rate,
            "num_samples": round(seconds * rate), "duration": seconds, "channel_ids": channels,
        }  # fmt: skip
    spans = kaldi.read_segments(directory, places)
    supervisions = []
    for uid, words in text.items():
        span = spans[uid] if spans else Segment(uid, 0.0, recordings[uid]["duration"], "")
        length = round(span.end - span.start, 8)
        where = {"recording_id": span.recording, "start": span.start, "duration": length}
        what = {"text": words, "language": languages[uid], "speaker": speakers[uid]}
        supervisions.append({"id": uid, **where, "channel": 0, **what})
    with atomic.new_folder(folder) as part:
        for kind, rows in (("recordings", recordings.values()), ("supervisions", supervisions)):
            with gzip.open(part / f"{kind}.jsonl.gz", "wt", encoding="utf-8") as file:
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return len(supervisions)
