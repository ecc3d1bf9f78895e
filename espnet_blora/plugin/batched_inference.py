"""Stage 12 without ESPnet's imports: what `asr_inference` would write, found by our batched search.

The launcher comes here when the options ask for nothing that only ESPnet's search has
(`espnet_blora.plugin.inference_options`). Options, output files and the log lines that stage 12
counts are the same; the adapter is merged once, utterances are batched by length, and the texts are
those of ESPnet's search (a test compares them over a whole set).
"""

from __future__ import annotations

import argparse
import datetime
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from espnet2.fileio.datadir_writer import DatadirWriter
from torch import Tensor

from espnet_blora.data.audio import blocks, open_audio
from espnet_blora.decoding.batch import decode
from espnet_blora.decoding.beam import Hypothesis
from espnet_blora.decoding.chunking import cut, joined
from espnet_blora.decoding.options import DecodingOptions
from espnet_blora.decoding.recogniser import Recogniser, open_experiment
from espnet_blora.plugin.data_checks import Languages
from espnet_blora.plugin.inference_options import extras, parse, why_espnet
from espnet_blora.plugin.settings import SEARCH, SEARCHES, Settings
from espnet_blora.utils.keyed import read_keyed

RATE = 16000
GROUP = 30 * 60 * RATE
"""Samples that are read before they are decoded: half an hour, 115 MB."""

Result = tuple[list[int], str, float]
"""Token ids, text and score."""

NO_HYPOTHESIS = "utterance %s: the search ended without a hypothesis; empty text"
_FORMAT = "%(asctime)s (%(module)s:%(lineno)d) %(levelname)s: %(message)s"
log = logging.getLogger(__name__)


def takes(arguments: Sequence[str]) -> argparse.Namespace | None:
    """Read the options of `asr_inference`; None when ESPnet's own program has to run.

    Raises:
        ValueError: ESPNET_BLORA_SEARCH is nonsense, or options of ours beside some of ESPnet's.
    """
    search = os.environ.get(SEARCH) or SEARCHES[0]
    if search not in SEARCHES:
        raise ValueError(f"{SEARCH} is {search!r}; allowed: {' or '.join(SEARCHES)}")
    options = parse(arguments)
    if isinstance(options, str):
        return None
    reason = "it was asked for" if search == "espnet" else why_espnet(options)
    if reason is None:
        return options
    if own := extras(options):
        raise ValueError(
            f"{', '.join(own)}: only our own search knows that, but ESPnet's has to run: {reason}"
        )
    logging.basicConfig(level=options.log_level, format=_FORMAT)
    log.info("decoding with ESPnet's own search: %s", reason)
    return None


def listed_keys(key_file: str | Path) -> list[str]:
    """Return the utterance ids of a key file.

    Raises:
        ValueError: one is listed twice.
    """
    lines = Path(key_file).read_text(encoding="utf-8").split("\n")
    keys = [line.split(maxsplit=1)[0] for line in lines if line.strip()]
    doubled = [key for key, count in Counter(keys).items() if count > 1]
    if doubled:
        raise ValueError(f"{key_file}: listed twice: {' '.join(doubled)}; remove one of each")
    return keys


def read_wave(uid: str, place: str) -> Tensor:
    """Read one utterance of a dumped set, (S,) fp32 at 16 kHz.

    Raises:
        ValueError: a file that is not there or cannot be read, of another rate, with more than one
            channel or with NaN; names the utterance.
    """
    try:
        with open_audio(place) as file:
            if file.samplerate != RATE or file.channels != 1:
                raise ValueError(
                    f"{file.samplerate} Hz, {file.channels} channels; 16 kHz mono is expected: "
                    "stage 3 makes it"
                )
            parts = [torch.from_numpy(block[:, 0]) for block in blocks(file)]
    except (RuntimeError, OSError, ValueError) as error:
        raise ValueError(f"utterance {uid!r}: {place}: {error}") from error
    wave = torch.cat(parts) if parts else torch.zeros(0)
    if not len(wave):
        log.warning("utterance %s: %s holds no samples; decoded as silence", uid, place)
    if not bool(torch.isfinite(wave).all()):
        raise ValueError(f"utterance {uid!r}: {place}: NaN or infinite samples; replace it")
    return wave


def cut_long(uid: str, wave: Tensor) -> list[Tensor]:
    """Cut a wave into pieces that fit Whisper's window; the log says so if there are several."""
    pieces = cut(wave)
    if len(pieces) > 1:
        log.warning(
            "utterance %s lasts %.1f s: decoded in %d pieces of at most 30 s",
            uid, len(wave) / RATE, len(pieces),
        )  # fmt: skip
    return pieces


class _Job:
    """One job of stage 12."""

    def __init__(self, options: argparse.Namespace, recogniser: Recogniser, places: dict[str, str]):
        self.options, self.recogniser, self.places = options, recogniser, places
        scp = options.data_path_and_name_and_type[0][0]
        self.languages = Languages.beside(scp, recogniser.vocabulary, recogniser.language)
        self.search = DecodingOptions.from_namespace(options)
        self.problems: list[str] = []

    def groups(self) -> Iterator[dict[str, Tensor]]:
        """Yield utterances in the key file's order, `GROUP` samples at a time."""
        group: dict[str, Tensor] = {}
        for uid, place in self.places.items():
            try:
                group[uid] = read_wave(uid, place)
            except ValueError as error:
                self.problems.append(str(error))
                continue
            if sum(map(len, group.values())) >= GROUP:
                yield group
                group = {}
        if group:
            yield group

    def decode(self, group: dict[str, Tensor]) -> dict[str, list[Result]]:
        """Decode utterances of any length; those over 30 s in pieces, whose texts are joined."""
        # pieces of at most 30 s by names of their own
        waves: dict[str, Tensor] = {}
        pieces: dict[str, list[str]] = {}
        for uid, wave in group.items():
            parts = cut_long(uid, wave)
            pieces[uid] = [f"{uid} {number}" for number in range(len(parts))]
            waves.update(zip(pieces[uid], parts, strict=True))
        prompts = {
            piece: self.recogniser.vocabulary.prompt(self.languages[uid])
            for uid, names in pieces.items()
            for piece in names
        }
        # one search over all of them, and the texts of an utterance's pieces as one
        begin = time.time()
        nbest = decode(self.recogniser, waves, prompts, self.search)
        self._log(group, nbest, pieces, begin, time.time())
        return {
            uid: self._joined([nbest[piece] for piece in names]) for uid, names in pieces.items()
        }

    def _log(
        self,
        group: dict[str, Tensor],
        nbest: dict[str, list[Hypothesis]],
        pieces: dict[str, list[str]],
        begin: float,
        end: float,
    ) -> None:
        """Write the two lines per utterance that `calculate_rtf.py` reads.

        What batches took is shared out by length: the times of the lines add up to it.
        """
        share = (end - begin) / max(1, sum(map(len, group.values())))
        for uid, wave in group.items():
            self._line(begin, f"speech length: {len(wave)}")
            begin += share * len(wave)
            line = self.recogniser.vocabulary.line
            best = [line(h.ids) for piece in pieces[uid] for h in nbest[piece][:1]]
            self._line(begin, f"best hypo: {uid} {joined(best)}")

    def _line(self, when: float, message: str) -> None:
        record = log.makeRecord(log.name, logging.INFO, __file__, 0, message, (), None)
        record.created = when
        record.msecs = datetime.datetime.fromtimestamp(when).microsecond // 1000
        log.handle(record)

    def _joined(self, parts: list[list[Hypothesis]]) -> list[Result]:
        line = self.recogniser.vocabulary.line
        return [
            (
                [i for hypothesis in row for i in hypothesis.ids],
                joined([line(hypothesis.ids) for hypothesis in row]),
                sum(hypothesis.score for hypothesis in row),
            )
            for row in zip(*parts, strict=False)  # as many as the piece with the fewest has
        ]

    def write(self, writer: DatadirWriter, uid: str, results: Sequence[Result]) -> None:
        """Write the n-best list of one utterance as ESPnet does."""
        if not results:
            log.warning(NO_HYPOTHESIS, uid)
        for number, (ids, text, score) in enumerate(results or [([], "", 0.0)], 1):
            folder = writer[f"{number}best_recog"]
            folder["token"][uid] = " ".join(self.recogniser.vocabulary.tokens(ids))
            folder["token_int"][uid] = " ".join(map(str, ids))
            folder["score"][uid] = str(torch.tensor(score))
            folder["text"][uid] = text


def inference(options: argparse.Namespace) -> None:
    """Decode one key file of stage 12.

    Raises:
        FileNotFoundError: a file that the options name is not there.
        ValueError: a mistake in options, model, data or audio; every utterance that cannot be
            decoded is named, after the others have been decoded.
    """
    from espnet_blora.plugin.resume import only_run

    logging.basicConfig(level=options.log_level, format=_FORMAT)
    settings = Settings.current()
    # the utterances of this job
    scp = options.data_path_and_name_and_type[0][0]
    places = read_keyed(scp)
    if options.key_file is not None:
        keys = listed_keys(options.key_file)
        missing = [key for key in keys if not places.get(key)]
        if missing:
            raise ValueError(
                f"{scp}: lacks {len(missing)} utterances of {options.key_file}: "
                f"{' '.join(missing[:10])}"
            )
        places = {key: places[key] for key in keys}
    # open the model, decode, write
    with ExitStack() as stack:
        stack.enter_context(only_run(Path(options.output_dir)))
        recogniser = open_experiment(
            options.asr_train_config,
            options.asr_model_file,
            whisper=settings.whisper,
            device="cuda" if options.ngpu else "cpu",
            dtype=options.dtype,
            adapter_scale=settings.adapter_scale,
        )
        job = _Job(options, recogniser, places)
        writer = stack.enter_context(DatadirWriter(options.output_dir))
        for group in job.groups():
            for uid, results in job.decode(group).items():
                job.write(writer, uid, results)
    if job.problems:
        raise ValueError(
            f"{len(job.problems)} of {len(places)} utterances could not be decoded (the others "
            f"were): {'; '.join(job.problems[:10])}"
        )
