"""Transcripts: words, segments and whole files, with times in seconds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from espnet_blora.decoding.chunking import joined


@dataclass(frozen=True)
class Word:
    """One word with the blank before it, if it has one: a segment's words join to its text.

    Attributes:
        word: Its text.
        start: Seconds from the file's beginning, with `word_timestamps`.
        end: The same.
        probability: The mean of its tokens', among text tokens, with `word_timestamps`.
        confidence: Its probability by all its tokens, with `confidence`.
    """

    word: str
    start: float | None = None
    end: float | None = None
    probability: float | None = None
    confidence: float | None = None

    def until(self, end: float) -> Word:
        """Return the word with times that do not lie behind `end`."""
        if self.start is None or self.end is None:
            return self
        return replace(self, start=min(self.start, end), end=min(self.end, end))


@dataclass(frozen=True)
class Segment:
    """A stretch of a file that is shown at once.

    Attributes:
        start: Seconds.
        end: Seconds.
        text: Its text.
        tokens: Ids of the text.
        avg_logprob: Of the whole piece of audio it comes from, end of text included, in nats per
            token.
        seek: Where that piece begins, in hundredths of a second.
        temperature: At which its text was found.
        compression_ratio: How many times shorter zlib makes its text.
        no_speech_prob: Probability that nobody speaks in it.
        complete: False where that piece's text was cut off by the limit of tokens.
        words: With `word_timestamps` or `confidence`.
        extra: Further figures of that piece, by name: its confidence and uncertainties.
    """

    start: float
    end: float
    text: str
    tokens: tuple[int, ...]
    avg_logprob: float
    seek: int = 0
    temperature: float = 0.0
    compression_ratio: float = 0.0
    no_speech_prob: float = 0.0
    complete: bool = True
    words: tuple[Word, ...] | None = None
    extra: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Transcript:
    """The text of one file, or the reason why there is none.

    Attributes:
        name: Of the file.
        duration: Seconds.
        language: Code that was decoded with.
        language_probability: Of a detected language.
        segments: In order of time.
        notes: Remarks on its audio.
        error: Why it could not be transcribed; else empty. Then there is nothing else.
    """

    name: str
    duration: float = 0.0
    language: str = ""
    language_probability: float | None = None
    segments: tuple[Segment, ...] = ()
    notes: tuple[str, ...] = ()
    error: str = ""

    @property
    def text(self) -> str:
        """All segments' texts as one line."""
        return joined([segment.text for segment in self.segments])

    def as_dict(self) -> dict:
        """openai-whisper's layout of a result, with `duration`, `notes` and `complete` added.

        Times are rounded to milliseconds, probabilities and log probabilities to four digits.
        Figures that the options do not ask for are left out.
        """
        values: dict = {
            "text": self.text,
            "segments": [_segment(i, segment) for i, segment in enumerate(self.segments)],
            "language": self.language,
            "duration": round(self.duration, 3),
            "notes": list(self.notes),
        }
        if self.language_probability is not None:
            values["language_probability"] = round(self.language_probability, 4)
        return values


def _segment(number: int, segment: Segment) -> dict:
    values: dict = {
        "id": number,
        "seek": segment.seek,
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": segment.text,
        "tokens": list(segment.tokens),
        "temperature": segment.temperature,
        "avg_logprob": round(segment.avg_logprob, 4),
        "compression_ratio": round(segment.compression_ratio, 4),
        "no_speech_prob": round(segment.no_speech_prob, 4),
        "complete": segment.complete,
        **{name: round(value, 4) for name, value in segment.extra.items()},
    }
    if segment.words is not None:
        values["words"] = [_word(word) for word in segment.words]
    return values


def _word(word: Word) -> dict:
    digits = {"start": 3, "end": 3, "probability": 4, "confidence": 4}
    known = {name: getattr(word, name) for name in digits}
    return {"word": word.word} | {
        name: round(value, digits[name]) for name, value in known.items() if value is not None
    }
