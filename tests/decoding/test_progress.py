"""What a person sees while files are transcribed."""

import io

from espnet_blora.decoding.output import Progress
from espnet_blora.decoding.transcript import Segment, Transcript


class Terminal(io.StringIO):
    def isatty(self):
        return True


def watch(stream):
    progress = Progress(3, stream, clock=iter([0.0] + [2.0] * 20).__next__)
    progress.audio(30.0)
    segments = (Segment(0, 30, "hello", (1,), -1.0, complete=False), Segment(30, 40, "", (), -1.0))
    progress.file(Transcript("a.wav", 40.0, "en", 0.876, segments, ("48000 Hz",)))
    progress.file(Transcript("b.wav", error="b.wav: no such audio file"))
    progress.audio(10.0)
    progress.file(Transcript("c.wav", 1.0, "zh"))
    return progress.end()


def test_a_line_a_file_and_a_summary():
    stream = io.StringIO()
    assert watch(stream) == 1
    assert stream.getvalue().splitlines() == [
        "[1/3] a.wav: 40.00 s, en (0.88), 15.0 s of audio per second; 48000 Hz; 1 of 2 segments "
        "reached the limit of tokens",
        "[2/3] FAILED b.wav: no such audio file",
        "[3/3] c.wav: 1.00 s, zh, 20.0 s of audio per second; nothing was said",
        "2 of 3 files transcribed, 1 FAILED (named above): 40.0 s of audio in 2.0 s",
    ]
    assert Progress(0, stream).end() == 0
    silent = io.StringIO()
    Progress(1, silent, clock=lambda: 0.0).file(Transcript("d.wav", 5.0))
    assert silent.getvalue().startswith("[1/1] d.wav: 5.00 s, 0.0 s of audio per second; ")


def test_a_live_line_on_a_terminal_only():
    stream = Terminal()
    watch(stream)
    shown = stream.getvalue()
    assert "\r\033[K0 of 3 files, 30 s of audio, 15.0 s/s\r\033[K[1/3] a.wav" in shown
    assert shown.count("\n") == 4
