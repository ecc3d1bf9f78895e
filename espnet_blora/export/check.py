"""What the readers of an export say, greedily, beside what we say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from whisper.model import Whisper

from espnet_blora.adapters import load_adapter
from espnet_blora.export.adapter import ADAPTER
from espnet_blora.export.hf import to_hf
from espnet_blora.export.openai import MODEL
from espnet_blora.whisper.checkpoint import load_whisper
from espnet_blora.whisper.vocabulary import N_PROMPT, Vocabulary

Ids = tuple[int, ...]


class Differs(Exception):
    """An export that its reader reads otherwise."""


@dataclass(frozen=True)
class Probe:
    """What both sides hear.

    Attributes:
        waves: Utterance -> (n,) samples at 16 kHz, fp32, at most 30 s; read in a 30 s window.
        languages: Utterance -> Whisper language code.
        limit: Tokens of a text at most.
        ours: Utterance -> ids that our search has found, without end of text.
    """

    waves: Mapping[str, Tensor]
    languages: Mapping[str, str]
    limit: int
    ours: Mapping[str, Ids]


def by_openai(folder: Path, probe: Probe, base: str) -> dict[str, Ids]:
    """Read as openai-whisper's users do."""
    import whisper

    return _decoded(whisper.load_model(str(folder / MODEL), device="cpu"), probe)


def by_adapter(folder: Path, probe: Probe, base: str) -> dict[str, Ids]:
    """Load the adapter on the plain Whisper that it was trained on; openai-whisper decodes it."""
    model = load_whisper(base, start=False).eval()
    load_adapter(model, folder / ADAPTER).merge_and_unload()
    return _decoded(model, probe)


def _decoded(model: Whisper, probe: Probe) -> dict[str, Ids]:
    import whisper

    found = {}
    for uid, wave in probe.waves.items():
        mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(wave), model.dims.n_mels)
        options = whisper.DecodingOptions(
            language=probe.languages[uid],
            without_timestamps=True,
            fp16=False,
            sample_len=probe.limit,
        )
        result: Any = whisper.decode(model, mel, options)
        found[uid] = tuple(result.tokens)
    return found


def by_hf(folder: Path, probe: Probe, base: str) -> dict[str, Ids]:
    """Read as users of transformers do; texts of its tokenizer are compared with ours, too.

    Raises:
        Differs: Its tokenizer makes another text of our ids.
    """
    from transformers import WhisperForConditionalGeneration, WhisperProcessor

    processor: Any = WhisperProcessor.from_pretrained(folder)
    model = WhisperForConditionalGeneration.from_pretrained(folder)
    vocabulary = Vocabulary.of(model.config.vocab_size)
    for uid, ours in probe.ours.items():
        spoken = [one for one in ours if one < vocabulary.eot]
        text, wanted = processor.decode(spoken), vocabulary.decode(spoken)
        if text != wanted:
            raise Differs(f"{uid}: its tokenizer reads our ids as {text!r}, ours as {wanted!r}")
    return _generated(model, processor, vocabulary, probe)


def by_peft(folder: Path, probe: Probe, base: str) -> dict[str, Ids]:
    """Read as users of PEFT do, on Hugging Face's model of the base."""
    from peft import PeftModel
    from transformers import WhisperFeatureExtractor

    whisper = load_whisper(base, start=False)
    model = PeftModel.from_pretrained(to_hf(whisper), folder)
    features = WhisperFeatureExtractor(feature_size=whisper.dims.n_mels)
    return _generated(model, features, Vocabulary.of(whisper.dims.n_vocab), probe)


@torch.inference_mode()
def _generated(model: Any, processor: Any, vocabulary: Vocabulary, probe: Probe) -> dict[str, Ids]:
    """Let a model of transformers generate, greedily."""
    found = {}
    for uid, wave in probe.waves.items():
        features = processor(wave.numpy(), sampling_rate=16000, return_tensors="pt").input_features
        row = model.generate(
            features,
            language=probe.languages[uid],
            task="transcribe",
            num_beams=1,
            do_sample=False,
            max_new_tokens=probe.limit,
        )[0].tolist()
        start = (
            N_PROMPT if row[:1] == [vocabulary.sot] else 0
        )  # not every release returns the prompt
        ids = row[start:]
        ids = tuple(ids[: ids.index(vocabulary.eot)] if vocabulary.eot in ids else ids)
        # At a timestamp, asked for or not, it cuts the audio and goes on from there: no comparison.
        ours = probe.ours[uid]
        times = [place for place, one in enumerate(ours) if one >= vocabulary.timestamp_begin]
        found[uid] = ids[: times[0]] + ours[times[0] :] if times else ids
    return found


Reader = Callable[[Path, Probe, str], dict[str, Ids]]
READERS: dict[str, Reader] = {
    "adapter": by_adapter,
    "openai": by_openai,
    "hf": by_hf,
    "peft": by_peft,
}


def compare(kind: str, ours: Mapping[str, Sequence[int]], theirs: Mapping[str, Ids]) -> None:
    """Compare ids utterance by utterance.

    Raises:
        Differs: An utterance differs; names the first, and where.
    """
    odd = [uid for uid in ours if tuple(ours[uid]) != theirs[uid]]
    if not odd:
        return
    first = odd[0]
    # not strict: where one text goes on, its token stands beside the other's None
    pairs = zip((*ours[first], None), (*theirs[first], None), strict=False)
    place = next(index for index, (one, other) in enumerate(pairs) if one != other)
    raise Differs(
        f"the export to {kind} was not kept: its reader says something else in {len(odd)} of "
        f"{len(ours)} utterances, first {first} at token {place + 1} (ours "
        f"{list(ours[first][place : place + 3])}, its {list(theirs[first][place : place + 3])})"
    )
