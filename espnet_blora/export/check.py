"""What the readers of an export say, greedily, beside what we say."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from whisper.model import Whisper

from espnet_blora.adapters import load_adapter
from espnet_blora.export import ggml
from espnet_blora.export.adapter import ADAPTER
from espnet_blora.export.hf import to_hf
from espnet_blora.export.openai import MODEL
from espnet_blora.whisper.checkpoint import load_whisper
from espnet_blora.whisper.vocabulary import N_PROMPT, Vocabulary

Ids = tuple[int, ...]
ROUNDED = 0.1
"""Share of utterances that may read otherwise where weights are stored in less than fp32."""

APART = 1e-3
"""How far logits of the same weights may be apart in two programs, relative to the largest."""

log = logging.getLogger(__name__)


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
        vocabulary: What the ids mean.
    """

    waves: Mapping[str, Tensor]
    languages: Mapping[str, str]
    limit: int
    ours: Mapping[str, Ids]
    vocabulary: Vocabulary

    def check_tokenizer(self, decode: Callable[[list[int]], str]) -> None:
        """Check that another tokenizer makes our texts of our ids.

        Raises:
            Differs: It makes another; names the utterance.
        """
        for uid, ours in self.ours.items():
            spoken = [one for one in ours if one < self.vocabulary.eot]
            text, wanted = decode(spoken), self.vocabulary.decode(spoken)
            if text != wanted:
                raise Differs(f"{uid}: its tokenizer reads our ids as {text!r}, ours as {wanted!r}")


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
    probe.check_tokenizer(processor.decode)
    return _generated(model, processor, probe)


def by_peft(folder: Path, probe: Probe, base: str) -> dict[str, Ids]:
    """Read as users of PEFT do, on Hugging Face's model of the base."""
    from peft import PeftModel
    from transformers import WhisperFeatureExtractor

    whisper = load_whisper(base, start=False)
    model = PeftModel.from_pretrained(to_hf(whisper), folder)
    features = WhisperFeatureExtractor(feature_size=whisper.dims.n_mels)
    return _generated(model, features, probe)


@torch.inference_mode()
def _generated(model: Any, processor: Any, probe: Probe) -> dict[str, Ids]:
    """Let a model of transformers generate, greedily."""
    found, vocabulary = {}, probe.vocabulary
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


def by_ct2(folder: Path, probe: Probe, base: str) -> dict[str, Ids]:
    """Open the folder as users of faster-whisper do, and decode its features in a 30 s window.

    (Its `transcribe` pads the features with zeros where all others pad the wave with silence.)

    Raises:
        Differs: Its tokenizer makes another text of our ids.
    """
    import ctranslate2
    from faster_whisper import WhisperModel
    from faster_whisper.tokenizer import Tokenizer

    model = WhisperModel(str(folder), device="cpu", cpu_threads=torch.get_num_threads())
    tokenizer = Tokenizer(model.hf_tokenizer, multilingual=True, task="transcribe", language="en")
    probe.check_tokenizer(tokenizer.decode)
    found = {}
    for uid, wave in probe.waves.items():
        samples = np.pad(wave.numpy(), (0, model.feature_extractor.n_samples - len(wave)))
        mel = model.feature_extractor(samples, padding=0)[None, :, :3000]  # (1, n_mels, 3000)
        result = model.model.generate(
            ctranslate2.StorageView.from_array(np.ascontiguousarray(mel, dtype=np.float32)),
            [list(probe.vocabulary.prompt(probe.languages[uid]))],
            beam_size=1,
            max_length=2 * probe.limit,  # it stops at half of it
        )
        found[uid] = tuple(result[0].sequences_ids[0])
    return found


def by_ggml(folder: Path, probe: Probe, base: str) -> dict[str, Ids]:
    """Let whisper.cpp read in a process of its own, and take the ids of its texts.

    Raises:
        ValueError: It cannot open the file.
    """
    job = {
        "languages": [probe.languages[uid] for uid in probe.waves],
        "limit": probe.limit,
        "threads": torch.get_num_threads(),
    }
    with tempfile.TemporaryDirectory() as name:
        waves, asked, said = (Path(name) / end for end in ("waves.npz", "job.json", "texts.json"))
        np.savez(waves, *(wave.numpy() for wave in probe.waves.values()))
        asked.write_text(json.dumps(job), encoding="utf-8")
        program = [sys.executable, "-m", "espnet_blora.export.ggml_reader"]
        paths = map(str, (folder / ggml.MODEL, waves, asked, said))
        done = subprocess.run([*program, *paths], capture_output=True, check=False)
        if done.returncode:
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise ValueError(
                f"whisper.cpp cannot read its file: status {done.returncode} "
                f"{''.join(last)}".rstrip()
            )
        texts = json.loads(said.read_text(encoding="utf-8"))
    found = {}
    for uid, text in zip(probe.waves, texts, strict=True):
        ours = probe.vocabulary.decode(probe.ours[uid])
        blank = " " * ours.startswith(" ")  # it strips its texts
        same = text == ours.strip()
        found[uid] = probe.ours[uid] if same else tuple(probe.vocabulary.encode(blank + text))
    return found


Reader = Callable[[Path, Probe, str], dict[str, Ids]]
READERS: dict[str, Reader] = {
    "adapter": by_adapter,
    "openai": by_openai,
    "hf": by_hf,
    "peft": by_peft,
    "ct2": by_ct2,
    "ggml": by_ggml,
}


@torch.inference_mode()
def compare_logits(source: Path, plain: Whisper, ours: Any) -> None:
    """Compare what a folder's own reader computes with what was made of it.

    Args:
        source: A folder of PEFT's or of transformers'.
        plain: The base of the former.
        ours: With `encoder`, `decoder` and `vocabulary`, plain modules.

    Raises:
        Differs: Logits are further apart than `APART`.
    """
    from transformers import WhisperForConditionalGeneration

    if (source / "adapter_config.json").is_file():
        from peft import PeftModel

        model: Any = PeftModel.from_pretrained(to_hf(plain), source).eval()
    else:
        model = WhisperForConditionalGeneration.from_pretrained(source, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(0)
    mel = torch.randn(1, plain.dims.n_mels, 2 * plain.dims.n_audio_ctx, generator=generator)
    ids = torch.tensor([[*ours.vocabulary.prompt("en"), *range(400, 408)]])
    theirs = model(input_features=mel, decoder_input_ids=ids).logits
    own = ours.decoder(ids, ours.encoder(mel))
    apart = ((theirs - own).abs().max() / own.abs().max()).item()
    if not apart < APART:
        raise Differs(
            f"{source}: its own reader computes something else: logits differ by {apart:.2g} of "
            f"the largest ({APART:g} is allowed); nothing was kept"
        )


def compare(kind: str, probe: Probe, theirs: Mapping[str, Ids], allowed: float = 0.0) -> list[str]:
    """Compare ids utterance by utterance; return the utterances that differ, and log their texts.

    Args:
        kind: A key of `READERS`.
        probe: Ours.
        theirs: Utterance -> ids.
        allowed: Share of utterances that may differ.

    Raises:
        Differs: More of them differ; names the first, and where.
    """
    odd = [uid for uid in probe.ours if probe.ours[uid] != theirs[uid]]
    for uid in odd:
        texts = (probe.vocabulary.decode(ids) for ids in (probe.ours[uid], theirs[uid]))
        log.warning("%s: ours %r, its reader's %r", uid, *texts)
    if len(odd) <= allowed * len(probe.ours):
        return odd
    ours, its = probe.ours[odd[0]], theirs[odd[0]]
    # not strict: where one text goes on, its token stands beside the other's None
    pairs = zip((*ours, None), (*its, None), strict=False)
    place = next(index for index, (one, other) in enumerate(pairs) if one != other)
    raise Differs(
        f"the export to {kind} was not kept: its reader says something else in {len(odd)} of "
        f"{len(probe.ours)} utterances, first {odd[0]} at token {place + 1} (ours "
        f"{list(ours[place : place + 3])}, its {list(its[place : place + 3])})"
    )
