"""What a person sees while files are transcribed: a line a file, a live line, a summary."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

from espnet_blora.decoding.transcript import Transcript


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
        """Seconds of audio a second."""
        return self.heard / max(self.clock() - self.begin, 1e-9)

    def audio(self, seconds: float) -> None:
        """So much more audio is decoded."""
        self.heard += seconds
        if self.live:
            count = f"{self.done} of {self.files} files, {self.heard:.0f} s of audio"
            self.stream.write(f"\r\033[K{count}, {self.rate:.1f} s/s")
            self.stream.flush()

    def file(self, found: Transcript) -> None:
        """Say that a file is done, or why it is not."""
        self.done += 1
        place = f"[{self.done}/{self.files}]"
        if found.error:
            self.failed += 1
            self._line(f"{place} FAILED {found.error}")
            return
        share = found.language_probability
        heard = found.language if share is None else f"{found.language} ({share:.2f})"
        notes = list(found.notes)
        if cut_off := sum(not segment.complete for segment in found.segments):
            notes.append(f"{cut_off} of {len(found.segments)} segments reached the limit of tokens")
        if not found.text:
            notes.append("nothing was said")
        more = "".join(f"; {note}" for note in notes)
        rate = f"{self.rate:.1f} s of audio a second"
        self._line(f"{place} {found.name}: {found.duration:.2f} s, {heard}, {rate}{more}")

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
        self.stream.write(("\r\033[K" if self.live else "") + text + "\n")
        self.stream.flush()
