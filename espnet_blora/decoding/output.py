"""Output of transcribe: result files by openai-whisper's own writers, and progress lines."""

from __future__ import annotations

import io
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TextIO
from unicodedata import category

from whisper.utils import WriteSRT, WriteTSV, WriteTXT, WriteVTT

from espnet_blora.data.audio_files import STDIN
from espnet_blora.decoding.segmentation import LINES, lines
from espnet_blora.decoding.transcript import Transcript
from espnet_blora.utils import atomic

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
        return json.dumps(transcript.as_dict(), ensure_ascii=False, allow_nan=False) + "\n"
    if form not in WRITERS:
        raise ValueError(f"format {form!r}; allowed: {', '.join(FORMATS)}")
    segments = [
        {"start": s.start, "end": s.end, "text": _shown(s.text, form in ("srt", "vtt"))}
        for s in transcript.segments
        if s.text.strip()
    ]
    stream = io.StringIO()
    WRITERS[form]("").write_result({"segments": segments}, file=stream)
    return stream.getvalue()


def one_line(text: str) -> str:
    r"""Return a text with backslashes for what breaks a line or cannot be written as UTF-8.

    >>> print(one_line("a\nb \udcff.wav"))
    a\nb \udcff.wav
    """
    return "".join(
        c.encode("unicode_escape").decode() if category(c) in ("Cc", "Cs", "Zl", "Zp") else c
        for c in text
    )


def _shown(text: str, subtitle: bool) -> str:
    """Return a text as one line, or broken into the lines of a subtitle where it fits them."""
    broken = lines(text) if subtitle else []
    return "\n".join(broken) if 0 < len(broken) <= LINES else " ".join(text.split())


def parse_formats(text: str) -> tuple[str, ...]:
    """Formats with commas between them, `all` for all, each once.

    Raises:
        ValueError: none, or one that does not exist.
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
    stems: dict[str, Path] = {}
    owners: dict[str, str] = {}
    for name in inputs:
        below = os.path.relpath(os.path.abspath(name), common) if keep_folders else Path(name).name
        stem = Path(folder) / ("stdin" if name == STDIN else Path(below).with_suffix(""))
        # a disk may not tell capitals from small letters
        if (other := owners.setdefault(str(stem).lower(), name)) != name:
            remedy = "rename one, or transcribe it into another --output_dir"
            if not keep_folders and os.path.dirname(name) != os.path.dirname(other):
                remedy = f"--keep_folders writes each to its own folder below {folder}"
            raise ValueError(f"{other} and {name} would both be written to {stem}.*: {remedy}")
        stems[name] = stem
    return stems


def file_of(stem: Path, form: str) -> Path:
    """The file of one format."""
    return stem.with_name(f"{stem.name}.{form}")


def existing(stems: Iterable[Path], formats: Sequence[str]) -> list[Path]:
    """The files that results would overwrite."""
    files = (file_of(stem, form) for stem in stems for form in formats)
    return [file for file in files if file.exists()]


def unfinished(stems: Mapping[str, Path], formats: Sequence[str]) -> dict[str, Path]:
    """Return the inputs of which not all results are there."""
    return {name: s for name, s in stems.items() if len(existing([s], formats)) < len(formats)}


def make_folder(folder: Path) -> None:
    """Make a folder for results.

    Raises:
        ValueError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"--output_dir: {folder} cannot be made ({error.strerror}); choose another"
        ) from error


def write(transcript: Transcript, stem: Path, formats: Sequence[str]) -> None:
    """Write the files of a transcript, each whole or not at all."""
    make_folder(stem.parent)
    for form in formats:
        atomic.write(file_of(stem, form), render(transcript, form))


def deliver(
    transcripts: Iterable[Transcript],
    stems: Mapping[str, Path],
    formats: Sequence[str],
    progress: Progress,
    texts: TextIO | None = None,
) -> int:
    """Write each transcript as soon as it is there; return 1 where a file failed, else 0.

    Args:
        transcripts: As they come.
        stems: As of `outputs`.
        formats: As of `parse_formats`.
        progress: Says which files are done.
        texts: Gets the texts, too.
    """
    for transcript in transcripts:
        if not transcript.error:
            try:
                write(transcript, stems[transcript.name], formats)
            except (OSError, ValueError) as error:
                progress.file(Transcript(transcript.name, error=f"{transcript.name}: {error}"))
                continue
            if texts is not None:
                texts.write(f"{one_line(transcript.name)}\n{render(transcript, 'tsv')}")
                texts.flush()
        progress.file(transcript)
    return progress.end()


class Progress:
    """Lines about the files that are done; on a terminal, one more that counts while they run."""

    def __init__(self, files: int, stream: TextIO, clock: Callable[[], float] = time.monotonic):
        """Begin now.

        Args:
            files: how many there will be.
            stream: where to write.
            clock: seconds.
        """
        self.files, self.stream, self.clock = files, stream, clock
        self.begin = clock()
        self.live = stream.isatty()
        self.heard = 0.0
        self.done = self.failed = 0

    @property
    def rate(self) -> float:
        """Seconds of audio per second."""
        return self.heard / max(self.clock() - self.begin, 1e-9)

    def audio(self, seconds: float) -> None:
        """Count seconds of audio that were decoded."""
        self.heard += seconds
        if self.live:
            count = f"{self.done} of {self.files} files, {self.heard:.0f} s of audio"
            self.stream.write(f"\r\033[K{count}, {self.rate:.1f} s/s")
            self.stream.flush()

    def file(self, transcript: Transcript) -> None:
        """Say that a file is done, or why it is not."""
        self.done += 1
        place = f"[{self.done}/{self.files}]"
        if transcript.error:
            self.failed += 1
            self._line(f"{place} FAILED {transcript.error}")
            return
        share = transcript.language_probability
        heard = transcript.language if share is None else f"{transcript.language} ({share:.2f})"
        heard = heard and f" {heard},"  # silence has no language
        notes = list(transcript.notes)
        if cut_off := sum(not segment.complete for segment in transcript.segments):
            notes.append(
                f"{cut_off} of {len(transcript.segments)} segments reached the limit of tokens"
            )
        if not transcript.text:
            notes.append("nothing was said")
        more = "".join(f"; {note}" for note in notes)
        rate = f"{self.rate:.1f} s of audio per second"
        self._line(f"{place} {transcript.name}: {transcript.duration:.2f} s,{heard} {rate}{more}")

    def end(self) -> int:
        """Sum up; 1 where files failed, else 0."""
        good = self.done - self.failed
        seconds = self.clock() - self.begin
        failed = f", {self.failed} FAILED (named above)" if self.failed else ""
        self._line(
            f"{good} of {self.files} files transcribed{failed}: {self.heard:.1f} s of audio in "
            f"{seconds:.1f} s"
        )
        return 1 if self.failed else 0

    def _line(self, text: str) -> None:
        self.stream.write(("\r\033[K" if self.live else "") + one_line(text) + "\n")
        self.stream.flush()
