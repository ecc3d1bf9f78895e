"""Transcribe files or waves of any length: many together in one batch, each done when it is done.

    from espnet_blora.decoding import Transcriber, open_experiment

    transcriber = Transcriber(open_experiment("exp/asr_blora"))
    for transcript in transcriber.transcribe(["a.wav", "b.flac"]):
        print(transcript.name, transcript.error or transcript.text)

Files are cut at pauses, and what is quiet is left out; pieces of all files go through the model
together, sorted by length, a bounded number of them at a time. Neither the batch nor the other
files change what is found in one, and a file that cannot be read or decoded costs no other file
anything.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import batched
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from whisper.audio import N_SAMPLES, N_SAMPLES_PER_TOKEN, SAMPLE_RATE

from espnet_blora.data.audio import loudness
from espnet_blora.data.audio_files import AudioFile
from espnet_blora.data.kaldi import read_utt2lang
from espnet_blora.decoding.batch import drawing, encode_batch
from espnet_blora.decoding.chunking import Source, Wave, slices, spans
from espnet_blora.decoding.confidence import TokenScores, token_scores, word_confidences
from espnet_blora.decoding.fallback import FORGETS, Try, find_texts
from espnet_blora.decoding.filters import build_filters
from espnet_blora.decoding.options import DecodingOptions
from espnet_blora.decoding.prompts import build_prompt, detect_language
from espnet_blora.decoding.recogniser import Recogniser
from espnet_blora.decoding.segmentation import divided, spoken_words, with_punctuation
from espnet_blora.decoding.silence import quiet_positions
from espnet_blora.decoding.timing import WordTime, word_times
from espnet_blora.decoding.training_config import TrainedLengths
from espnet_blora.decoding.transcript import Segment, Transcript
from espnet_blora.text.tokens import mixed_tokens

AUTO = "auto"
WINDOW, SHORTEST = N_SAMPLES / SAMPLE_RATE, 1.0
"""Seconds of a piece that may be asked for."""
SAFE = 10.0
"""Seconds of a piece above which a note says so where the training's lengths are not known."""
SURE = 0.5
"""Probability of a detected language below which a note says so."""
_POOL = 2
"""Full batches of the longest pieces that are held at a time, to make batches of one length."""


@dataclass(eq=False)
class _File:
    """A file on its way.

    Attributes:
        name: As the user named it.
        source: Its audio, from the moment when it was opened.
        language: Code of its language, once it is known.
        probability: Of a detected language.
        pieces: The first sample and the last one + 1 of each of its pieces.
        first: The first of them, from which a language is detected.
        segments: First sample of a piece -> what was found in it.
        said: Tokens that its next piece is prompted with.
        notes: Remarks on what was done with it.
        error: Why it cannot be transcribed; empty where it can.
        delivered: Whether its transcript has been handed out.
    """

    name: str
    source: Source = field(init=False)
    language: str | None = None
    probability: float | None = None
    pieces: list[tuple[int, int]] = field(default_factory=list)
    first: Tensor | None = None
    segments: dict[int, list[Segment]] = field(default_factory=dict)
    said: tuple[int, ...] = ()
    notes: list[str] = field(default_factory=list)
    error: str = ""
    delivered: bool = False

    @property
    def ready(self) -> bool:
        """Whether a transcript can be handed out that has not been."""
        return not self.delivered and (bool(self.error) or len(self.segments) == len(self.pieces))

    def hear(self, begin: int, temperature: float) -> None:
        """Keep what was said in the piece from `begin` on; forget all after a doubtful one."""
        new = (token for segment in self.segments[begin] for token in segment.tokens)
        self.said = () if temperature > FORGETS else (*self.said, *new)

    def fail(self, message: str) -> None:
        """Keep why it cannot be transcribed; the message begins with its name."""
        known = (f"{self.name}:", f"{Path(self.name)}:", f"utterance {self.name}:")
        self.error = message if message.startswith(known) else f"{self.name}: {message}"

    def transcript(self) -> Transcript:
        """Hand the transcript out."""
        self.delivered = True
        if self.error:
            return Transcript(self.name, error=self.error)
        return Transcript(
            name=self.name,
            duration=self.source.samples / SAMPLE_RATE,
            language=self.language or "",
            language_probability=self.probability,
            segments=tuple(s for begin in sorted(self.segments) for s in self.segments[begin]),
            notes=(*self.source.notes, *self.notes),
        )


@dataclass(eq=False)
class Piece:
    """At most 30 s of a file, from the sample `begin` on."""

    file: _File
    begin: int
    wave: Tensor


class Transcriber:
    """A recogniser with options; `transcribe` may be called again and again."""

    split = staticmethod(with_punctuation(mixed_tokens))

    def __init__(
        self,
        recogniser: Recogniser,
        options: DecodingOptions | None = None,
        progress: Callable[[float], None] | None = None,
    ):
        """Take what stays the same for all files.

        Args:
            recogniser: The opened model.
            options: How to transcribe.
            progress: Called with the seconds of audio of every batch that is done.

        Raises:
            ValueError: An option that this model cannot follow, or a language that is neither a
                code nor a file.
        """
        self.recogniser = recogniser
        self.options = options = options or DecodingOptions()
        self.progress = progress or (lambda seconds: None)
        drawing(recogniser, options)
        self.filters = build_filters(recogniser.vocabulary, options)
        self.limits = _limits(options.chunk_length, recogniser.lengths)
        self.prompts: dict[str, list[int]] = {}
        self.languages = _languages(options.language, recogniser)
        codes = [self.languages] if isinstance(self.languages, str) else self.languages.values()
        for code in set(codes) - {AUTO}:
            self._prompt(code)

    def transcribe(
        self, audio: Mapping[str, Tensor | np.ndarray] | Iterable[str | Path]
    ) -> Iterator[Transcript]:
        """Yield each file's transcript as soon as it is complete, short ones before long ones.

        Args:
            audio: paths, or waves (samples,) at 16 kHz by name.

        Yields:
            one `Transcript` for each; with `error` where there is none.
        """
        # pieces of several files wait until there are enough for batches of one length
        most = _POOL * self.options.batch_size * self.limits[0]
        if self.options.condition_on_previous_text:
            most = 1  # piece by piece
        pool: list[Piece] = []
        named = audio.items() if isinstance(audio, Mapping) else ((str(p), p) for p in audio)
        for name, given in named:
            file = _File(name)
            pieces = self._pieces(file, given)
            while piece := self._next(file, pieces):
                pool.append(piece)
                if sum(len(held.wave) for held in pool) >= most:
                    yield from self._decode(pool)
                    pool = []
            if file.ready:
                yield file.transcript()
        yield from self._decode(pool)

    def _pieces(self, file: _File, given: Tensor | np.ndarray | str | Path) -> Iterator[Piece]:
        if isinstance(given, str | Path):
            file.source = AudioFile.open(given)
        else:
            file.source = Wave.of(given)
        file.language = self._language(file.name)
        samples, levels = file.source.samples, file.source.loudness
        file.pieces = spans(levels, samples, *self.limits, self.options.drop_quiet)
        self._note(file, [(end - begin) / SAMPLE_RATE for begin, end in file.pieces])
        for begin, wave in slices(map(torch.from_numpy, file.source), samples, file.pieces):
            if file.language is None and file.first is None:
                file.first = wave
            yield Piece(file, begin, wave)

    def _note(self, file: _File, seconds: list[float]) -> None:
        """Say what is left out of a file, and whether a piece is longer than any trained on."""
        trained, quiet = self.recogniser.lengths, file.source.samples / SAMPLE_RATE - sum(seconds)
        if quiet >= 1:
            file.notes.append(f"{quiet:.1f} s of silence or steady noise left out")
        longest = max(seconds, default=0.0)
        if trained is None and longest > SAFE and self.options.chunk_length is None:
            file.notes.append(
                f"pieces of up to {longest:.1f} s, but it is not known how long the utterances of "
                "the training were: give --chunk_length"
            )
        if trained is not None and longest > trained.longest:
            file.notes.append(
                f"pieces of up to {longest:.1f} s, but nothing longer than {trained.longest:.1f} s "
                "was trained on: leave --chunk_length out"
            )

    @staticmethod
    def _next(file: _File, pieces: Iterator[Piece]) -> Piece | None:
        """Return the next piece; None behind the last, and where the file has a fault."""
        try:
            return None if file.error else next(pieces, None)
        except (ValueError, OSError) as error:
            file.fail(str(error))
            return None

    def _language(self, name: str) -> str | None:
        """Return the code of a file's language; None where it is to be detected."""
        given = self.languages
        if not isinstance(given, str):
            stem = Path(name).stem
            if name not in given and stem not in given:
                raise ValueError(f"{name}: no language is given for it; add the line '{stem} CODE'")
            given = given.get(name) or given[stem]
        return None if given == AUTO else self.recogniser.vocabulary.language_code(given)

    def _prompt(self, language: str, said: Sequence[int] = ()) -> list[int]:
        """Return the prompt of a piece, given its language and the tokens before it."""
        if language in self.prompts and not said:
            return self.prompts[language]
        prompt = build_prompt(
            self.recogniser.vocabulary,
            language,
            self.options.task,
            self.options.initial_prompt,
            n_text_ctx=self.recogniser.decoder.positional_embedding.shape[0],
            said=said,
        )
        if not said:
            self.prompts[language] = prompt
        return prompt

    def _decode(self, pool: list[Piece]) -> Iterator[Transcript]:
        """Decode what is held, the longest first; yield the files that it completes."""
        pool.sort(key=lambda piece: -len(piece.wave))
        for pieces in batched(pool, self.options.batch_size):
            batch = [piece for piece in pieces if not piece.file.error]
            self._attempt(batch)
            self.progress(sum(len(piece.wave) for piece in batch) / SAMPLE_RATE)
            for file in dict.fromkeys(piece.file for piece in batch):
                if file.ready:
                    yield file.transcript()

    def _attempt(self, batch: list[Piece]) -> None:
        """Recognise a batch; one that fails in halves, until what is wrong is known by name."""
        if not batch:
            return
        try:
            return self._recognise(batch)
        except (torch.OutOfMemoryError, ValueError) as error:
            if len(batch) == 1:
                return self._give_up(batch[0], error)
        # outside of `except`: its error would keep all tensors of the failed try alive
        half = (len(batch) + 1) // 2
        self._attempt(batch[:half])
        self._attempt([piece for piece in batch[half:] if not piece.file.error])

    def _give_up(self, piece: Piece, error: Exception) -> None:
        """Keep why a piece cannot be decoded even alone."""
        message = str(error)
        if isinstance(error, torch.OutOfMemoryError):
            message = (
                f"{len(piece.wave) / SAMPLE_RATE:.1f} s do not fit the memory of "
                f"{self.recogniser.device} even alone: use a smaller beam, or the CPU"
            )
        piece.file.fail(message)

    @torch.inference_mode()
    def _recognise(self, batch: list[Piece]) -> None:
        """Encode, detect languages that are not given, search, and find what was asked for."""
        options, decoder, vocabulary = (
            self.options,
            self.recogniser.decoder,
            self.recogniser.vocabulary,
        )
        waves = [piece.wave for piece in batch]
        names = [piece.file.name for piece in batch]
        n = options.samples or 1
        # the posterior's mean finds languages and times, the draws (if any) find the texts
        mean = drawn = None
        heard = all(piece.file.language for piece in batch)
        if not heard or options.word_timestamps or not options.samples:
            mean = drawn = encode_batch(self.recogniser, waves, names)
            self._hear(batch, *mean)
        prompts = [self._prompt(str(piece.file.language), piece.file.said) for piece in batch]
        with drawing(self.recogniser, options):
            if options.samples:
                drawn = encode_batch(self.recogniser, waves * n, names * n)
            assert drawn is not None  # without draws, it is the mean
            found = find_texts(self.recogniser, drawn, prompts, options, self.filters)
            scores: Sequence[TokenScores | None] = [None] * len(batch)
            if options.confidence:
                tokens, temperature = [one.tokens for one in found], options.confidence_temperature
                scores = token_scores(decoder, *drawn, prompts, tokens, n, temperature)
        # when each word is said
        times: Sequence[list[WordTime] | None] = [None] * len(batch)
        if options.word_timestamps:
            assert mean is not None
            times = word_times(
                decoder, *mean, prompts, [one.hypothesis.ids for one in found], vocabulary,
                self.recogniser.alignment_heads, self.split,
                positions=[math.ceil(len(wave) / N_SAMPLES_PER_TOKEN) for wave in waves],
                quiet=[quiet_positions(loudness(wave.numpy())) for wave in waves],
            )  # fmt: skip
        for piece, one, spoken, score in zip(batch, found, times, scores, strict=True):
            piece.file.segments[piece.begin] = self._segments(piece, one, spoken, score)
            if options.condition_on_previous_text:
                piece.file.hear(piece.begin, one.temperature)

    def _hear(self, batch: list[Piece], memory: Tensor, lengths: Tensor) -> None:
        """Detect the languages that are not given, by a file's first piece."""
        unknown = dict.fromkeys(p.file for p in batch if p.file.language is None)
        rows = [
            row
            for row, piece in enumerate(batch)
            if piece.file in unknown and piece.begin == piece.file.pieces[0][0]
        ]
        if rows:
            self._detect([batch[row].file for row in rows], memory[rows], lengths[rows])
        for file in unknown:
            if file.language is None and file.first is not None:
                self._detect([file], *encode_batch(self.recogniser, [file.first], [file.name]))

    def _detect(self, files: list[_File], memory: Tensor, lengths: Tensor) -> None:
        model = self.recogniser
        codes, shares = detect_language(
            model.decoder, memory, lengths, model.vocabulary, model.languages
        )
        for file, code, share in zip(files, codes, shares, strict=True):
            file.language, file.probability = code, share[code]
            if share[code] < SURE:
                file.notes.append(
                    f"heard as {code} with a probability of {share[code]:.2f} only: name the "
                    "language (--language)"
                )

    def _segments(
        self,
        piece: Piece,
        found: Try,
        times: list[WordTime] | None,
        scores: TokenScores | None,
    ) -> list[Segment]:
        """Return a piece's segment, or several where its words have times; none of silence."""
        begin, vocabulary = piece.begin / SAMPLE_RATE, self.recogniser.vocabulary
        end = begin + len(piece.wave) / SAMPLE_RATE
        if found.silent(self.options):
            piece.file.notes.append(f"{begin:.1f} to {end:.1f} s taken for silence")
            return []
        whole = Segment(
            start=begin,
            end=end,
            text=found.text,
            tokens=found.hypothesis.ids,
            avg_logprob=found.avg_logprob,
            seek=piece.begin * 100 // SAMPLE_RATE,
            temperature=found.temperature,
            compression_ratio=found.compression_ratio,
            no_speech_prob=found.no_speech_prob,
            complete=found.hypothesis.ended,
        )
        # confidences of the whole piece and of its words
        confidences = None
        if scores is not None:
            confidences = word_confidences(
                vocabulary, scores, self.split, self.options.word_confidence
            )
            parts = {f"uncertainty_{k}": v for k, v in scores.mean_uncertainty().items()}
            whole = replace(whole, extra={"confidence": scores.confidence, **parts})
        if times is None and confidences is None:
            return [whole]
        # words, and segments of them where they have times
        words = spoken_words(unicodedata.normalize("NFC", found.text), times, confidences, begin)
        if times is None:
            return [replace(whole, words=tuple(words))]
        # the last position may reach beyond the last sample
        words = [word.until(whole.end) for word in words]
        return divided(whole, words, vocabulary, self.split)


def _limits(chunk_length: float | None, trained: TrainedLengths | None) -> tuple[int, int]:
    """Return the samples of a piece at most, and those up to which pieces are put together."""
    if chunk_length is not None:
        seconds = chunk_length, chunk_length
    elif trained is None:
        seconds = WINDOW, WINDOW
    else:
        seconds = min(trained.most, WINDOW), min(trained.median, WINDOW)
    most, merge = (int(max(SHORTEST, s) * SAMPLE_RATE) for s in seconds)
    return most, merge


def _languages(
    given: str | Mapping[str, str] | None, recogniser: Recogniser
) -> str | Mapping[str, str]:
    """Return a code for all files, `AUTO`, or codes by name, from what a user gave.

    Raises:
        ValueError: Neither a language of this model nor a file of languages.
    """
    trained = recogniser.languages
    only = trained[0] if len(trained) == 1 else AUTO  # of several, one is detected
    given = given or recogniser.language or only
    if given == AUTO or not isinstance(given, str):
        return given
    if Path(given).is_file():
        return read_utt2lang(given, recogniser.vocabulary.languages)
    try:
        return recogniser.vocabulary.language_code(given)
    except ValueError as error:
        raise ValueError(f"language: there is no file {given!r}, and {error}") from error
