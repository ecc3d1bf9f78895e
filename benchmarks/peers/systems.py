"""The systems that are compared: how each opens its checkpoint and decodes a set of waves.

All start from waves in memory and end with token ids; log-mel features are part of the work, files
and text are not. Each decodes batches of `batch` utterances in the order given, except ours,
which puts those of about one length together. No tokens are suppressed but blank and end of text at
the beginning, which is the default of all but ESPnet. Libraries are imported where they are used,
so that a process holds only its own.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SAMPLE_RATE, WINDOW = 16000, 30 * 16000


@dataclass(frozen=True)
class Opening:
    """What a process needs to open its system: the Whisper, the converted folder, the machine."""

    system: str
    whisper: str
    folder: str
    n_mels: int
    eot: int
    pad_to: str
    device: str
    dtype: str
    threads: int


@dataclass(frozen=True)
class Task:
    """How to decode: with `fixed` exactly `tokens` an utterance, else at most so many.

    `ratio`: where not 0, ESPnet's rule with so many tokens a position of the memory at most;
    else openai-whisper's rule.
    """

    beam: int
    batch: int
    tokens: int
    fixed: bool = False
    ratio: float = 0.0


@dataclass(frozen=True)
class Utterance:
    """A wave (S,) at 16 kHz, its language and the prompt for it."""

    wave: np.ndarray
    language: str
    prompt: list[int]


class System(ABC):
    """One system with its model in memory."""

    one_by_one = False
    """Whether it takes one utterance at a time, whatever the batch."""

    def __init__(self, opening: Opening):
        """Open the model."""
        self.opening = opening
        self.open()

    @abstractmethod
    def open(self) -> None:
        """Load the weights."""

    @abstractmethod
    def decode_batch(self, speech: Sequence[Utterance], task: Task) -> list:
        """Ids of each best text, without prompt; end of text and more may stand behind it."""

    def decode(self, speech: Mapping[str, Utterance], task: Task) -> dict[str, list[int]]:
        """Utterance id -> text ids."""
        texts = {}
        for uids in self.batches(speech, task):
            found = self.decode_batch([speech[uid] for uid in uids], task)
            texts |= zip(uids, found, strict=True)
        return {uid: self.cut(list(ids), task) for uid, ids in texts.items()}

    def batches(self, speech: Mapping[str, Utterance], task: Task) -> Iterator[list[str]]:
        """Ids of utterances that are decoded at once."""
        yield from split(list(speech), 1 if self.one_by_one else task.batch)

    def cut(self, ids: list[int], task: Task) -> list[int]:
        """Without what stands behind the end."""
        eot = self.opening.eot
        ids = ids[: ids.index(eot)] if eot in ids else ids
        return ids[: task.tokens] if task.fixed else ids


def split(uids: list[str], size: int) -> Iterator[list[str]]:
    """Parts of a list."""
    yield from (uids[first : first + size] for first in range(0, len(uids), size))


class Ours(System):
    """`espnet_blora.decoding`."""

    pad_to = ""

    def open(self) -> None:
        from espnet_blora.decoding.recogniser import open_whisper

        o = self.opening
        self.recogniser = open_whisper(
            o.whisper, device=o.device, dtype=o.dtype, pad_to=self.pad_to or o.pad_to
        )

    def batches(self, speech: Mapping[str, Utterance], task: Task) -> Iterator[list[str]]:
        """All: our `decode` makes batches itself."""
        yield list(speech)

    def decode_batch(self, speech: Sequence[Utterance], task: Task) -> list:
        import torch

        from espnet_blora.decoding.batch import decode
        from espnet_blora.decoding.options import DecodingOptions

        rule = {"rule": "whisper", "max_tokens": task.tokens}
        if task.ratio:
            rule = {"rule": "espnet", "maxlenratio": task.ratio}
        never = str(self.opening.eot) if task.fixed else ""
        found = decode(
            self.recogniser,
            {str(n): torch.from_numpy(one.wave) for n, one in enumerate(speech)},
            {str(n): one.prompt for n, one in enumerate(speech)},
            DecodingOptions(
                beam_size=task.beam, batch_size=task.batch, suppress_tokens=never, **rule
            ),
        )
        return [texts[0].ids for texts in found.values()]


class OursUnpadded(Ours):
    """The same, padded to the batch only, where the others must have their window of 30 s."""

    pad_to = "batch"


class Espnet(System):
    """ESPnet's `Speech2Text` and its batched beam search over our plugin's cached decoder."""

    cache = "cached"

    def open(self) -> None:
        from espnet_blora import plugin

        plugin.register(whisper=self.opening.whisper)
        self.beam, self.model = 0, None
        self.with_beam(Task(1, 1, 1))

    def with_beam(self, task: Task):
        """Open it anew where the beam is another: `Speech2Text` takes it when it is opened."""
        from espnet2.bin import asr_inference

        if self.beam != task.beam:
            folder = Path(self.opening.folder) / "espnet"
            self.beam, self.model = task.beam, None  # the old one leaves before the new one comes
            self.model = asr_inference.Speech2Text(
                str(folder / f"{self.opening.pad_to}_{self.cache}.yaml"),
                str(folder / "model.pth"),
                beam_size=task.beam,
                ctc_weight=0.0,
                lm_weight=0.0,
                device=self.opening.device,
                dtype=self.opening.dtype,
            )
        self.model.batch_size = 1 if self.one_by_one else task.batch
        self.model.maxlenratio = task.ratio or -task.tokens
        self.model.minlenratio = 1 - task.tokens if task.fixed else 0.0  # end of text is counted
        return self.model

    def decode_batch(self, speech: Sequence[Utterance], task: Task) -> list:
        model = self.with_beam(task)
        if self.one_by_one:
            return [model(one.wave, language=one.language)[0][2] for one in speech]
        found = model.batch_decode(
            [one.wave for one in speech], language=[one.language for one in speech]
        )
        return [best[0][2] for best in found]


class EspnetAlone(Espnet):
    """What ESPnet does by itself: one utterance at a time, every prefix computed anew."""

    cache = "uncached"
    one_by_one = True


class OpenaiWhisper(System):
    """`whisper.decode`; its batches are of one language."""

    def open(self) -> None:
        import torch
        import whisper

        from espnet_blora.whisper.checkpoint import load_whisper

        o = self.opening
        self.log_mel = lambda wave: whisper.log_mel_spectrogram(
            whisper.pad_or_trim(torch.from_numpy(wave)), o.n_mels, device=o.device
        )
        self.model = load_whisper(o.whisper, o.device).eval()

    def batches(self, speech: Mapping[str, Utterance], task: Task) -> Iterator[list[str]]:
        size = 1 if task.beam > 1 else task.batch  # a beam search over several is an error in it
        for language in sorted({one.language for one in speech.values()}):
            yield from split([uid for uid in speech if speech[uid].language == language], size)

    def decode_batch(self, speech: Sequence[Utterance], task: Task) -> list:
        import torch
        import whisper

        mels = torch.stack([self.log_mel(one.wave) for one in speech])
        options = whisper.DecodingOptions(
            language=speech[0].language,
            without_timestamps=True,
            beam_size=task.beam if task.beam > 1 else None,
            sample_len=task.tokens,
            suppress_tokens=[self.opening.eot] if task.fixed else [],
            fp16=self.opening.dtype == "float16",
        )
        return [result.tokens for result in whisper.decode(self.model, mels, options)]


class HuggingFace(System):
    """`generate` of Hugging Face's `WhisperForConditionalGeneration`."""

    def open(self) -> None:
        import torch
        from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration, logging

        logging.set_verbosity_error()
        folder = Path(self.opening.folder) / "hf"
        self.dtype = getattr(torch, self.opening.dtype)
        model = WhisperForConditionalGeneration.from_pretrained(folder, dtype=self.dtype)
        self.model = model.eval().to(self.opening.device)
        self.features = WhisperFeatureExtractor(feature_size=self.opening.n_mels)

    def decode_batch(self, speech: Sequence[Utterance], task: Task) -> list:
        device = self.opening.device
        waves = [one.wave for one in speech]
        mels = self.features(
            waves, sampling_rate=SAMPLE_RATE, return_tensors="pt", device=device
        ).input_features
        found = self.model.generate(
            mels.to(device, self.dtype),
            language=[one.language for one in speech],
            task="transcribe",
            num_beams=task.beam,
            do_sample=False,
            max_new_tokens=task.tokens,
            min_new_tokens=task.tokens if task.fixed else None,
        )
        return found.tolist()


class FasterWhisper(System):
    """faster-whisper's features and batched `generate` of CTranslate2."""

    prefix = ""

    def open(self) -> None:
        o = self.opening
        if o.device == "cpu":
            # CTranslate2 needs neither, but imports them where they are: that is not its memory
            sys.modules |= {"torch": None, "transformers": None}
        import ctranslate2
        from faster_whisper.feature_extractor import FeatureExtractor

        self.view = ctranslate2.StorageView.from_array
        self.features = FeatureExtractor(feature_size=o.n_mels)
        self.model = ctranslate2.models.Whisper(
            str(Path(o.folder) / "ct2"),
            device=o.device.partition(":")[0],
            compute_type=self.prefix + o.dtype,
            intra_threads=o.threads,
        )

    def decode_batch(self, speech: Sequence[Utterance], task: Task) -> list:
        mels = [self.features(one.wave, padding=WINDOW - len(one.wave)) for one in speech]
        found = self.model.generate(
            self.view(np.ascontiguousarray(np.stack(mels), dtype=np.float32)),
            [one.prompt for one in speech],
            beam_size=task.beam,
            max_length=2 * task.tokens,  # CTranslate2 stops at half of it
            suppress_tokens=[self.opening.eot] if task.fixed else [],
        )
        return [one.sequences_ids[0] for one in found]


class FasterWhisperInt8(FasterWhisper):
    """The same with weights and products in eight bits."""

    prefix = "int8_"


OURS, UNPADDED = "ours", "ours, padded to the batch"
SYSTEMS: dict[str, type[System]] = {
    OURS: Ours,
    UNPADDED: OursUnpadded,
    "ESPnet alone": EspnetAlone,
    "ESPnet batched, our cache": Espnet,
    "openai-whisper": OpenaiWhisper,
    "HF generate": HuggingFace,
    "faster-whisper": FasterWhisper,
    "faster-whisper int8": FasterWhisperInt8,
}
READS = {
    "ESPnet alone": "espnet",
    "ESPnet batched, our cache": "espnet",
    "HF generate": "hf",
    "faster-whisper": "ct2",
    "faster-whisper int8": "ct2",
}
"""What each system needs of `convert.prepare`; the others read the checkpoint itself."""
