"""Transcripts as files: JSON, SRT, VTT, TSV and plain text, by openai-whisper's own writers."""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from whisper.utils import WriteSRT, WriteTSV, WriteTXT, WriteVTT

from espnet_blora.decoding.segmentation import LINES, lines
from espnet_blora.decoding.transcript import Transcript

WRITERS = {"srt": WriteSRT, "vtt": WriteVTT, "tsv": WriteTSV, "txt": WriteTXT}
FORMATS = ("json", *WRITERS)


def render(transcript: Transcript, form: str) -> str:
    """What a file of one of `FORMATS` holds.

    JSON is `Transcript.as_dict`; the others are what openai-whisper writes for the segments that
    are not empty. A text that fits two lines of a subtitle is broken there, a longer one is left to
    the player.

    Raises:
        ValueError: another format.
    """
    if form == "json":
        found = transcript.as_dict()
        return json.dumps(found, ensure_ascii=False, allow_nan=False) + "\n"
    if form not in WRITERS:
        raise ValueError(f"format {form!r}; allowed: {', '.join(FORMATS)}")
    segments = [
        {"start": s.start, "end": s.end, "text": " ".join(s.text.split())}
        for s in transcript.segments
        if s.text.strip()
    ]
    if form in ("srt", "vtt"):
        for segment in segments:
            broken = lines(segment["text"])
            segment["text"] = "\n".join(broken if len(broken) <= LINES else [segment["text"]])
    stream = io.StringIO()
    WRITERS[form]("").write_result({"segments": segments}, file=stream)
    return stream.getvalue()


def parse_formats(text: str) -> tuple[str, ...]:
    """Formats with commas between them, `all` for all, each once.

    Raises:
        ValueError: none, or one that there is not.
    """
    names = [name for part in text.split(",") if (name := part.strip().lower())]
    unknown = [name for name in names if name not in (*FORMATS, "all")]
    if unknown or not names:
        raise ValueError(
            f"format {', '.join(unknown) or repr(text)}; allowed: {', '.join(FORMATS)}, with "
            "commas between them, or all"
        )
    return FORMATS if "all" in names else tuple(dict.fromkeys(names))


def outputs(
    inputs: Sequence[str], folder: str | Path, keep_folders: bool = False
) -> dict[str, Path]:
    """Where the results of each input go, without suffix: FOLDER/stem.

    Args:
        inputs: paths.
        folder: where results go.
        keep_folders: FOLDER/sub/stem, with the folders that the inputs do not have in common.

    Raises:
        ValueError: two inputs that would be written to one place, or one that is given twice.
    """
    doubled = [name for name, count in Counter(map(os.path.abspath, inputs)).items() if count > 1]
    if doubled:
        raise ValueError(f"{doubled[0]}: given twice; name each file once")
    common = os.path.commonpath([os.path.dirname(os.path.abspath(i)) for i in inputs] or [""])
    found: dict[str, Path] = {}
    owners: dict[str, str] = {}
    for name in inputs:
        below = os.path.relpath(os.path.abspath(name), common) if keep_folders else Path(name).name
        stem = Path(folder) / Path(below).with_suffix("")
        # a disk may not tell capitals from small letters
        if (other := owners.setdefault(str(stem).lower(), name)) != name:
            remedy = "rename one, or transcribe it into another --output_dir"
            if not keep_folders and os.path.dirname(name) != os.path.dirname(other):
                remedy = f"--keep_folders writes each to its own folder below {folder}"
            raise ValueError(f"{other} and {name} would both be written to {stem}.*: {remedy}")
        found[name] = stem
    return found


def file_of(stem: Path, form: str) -> Path:
    """The file of one format."""
    return stem.with_name(f"{stem.name}.{form}")


def existing(stems: Iterable[Path], formats: Sequence[str]) -> list[Path]:
    """The files that results would overwrite."""
    files = (file_of(stem, form) for stem in stems for form in formats)
    return [file for file in files if file.exists()]
