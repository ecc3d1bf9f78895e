"""Utterances by which an export is compared with the model that it was made of."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from espnet_blora.decoding.batch import decode
from espnet_blora.decoding.dumped_set import read_set
from espnet_blora.decoding.options import DecodingOptions
from espnet_blora.decoding.recogniser import Recogniser

log = logging.getLogger(__name__)
WINDOW = "30s"


def probe_waves(
    folder: Path | None, recogniser: Recogniser, count: int
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return waves and language codes of `count` utterances of a set, or of seeded noises.

    Args:
        folder: Holds wav.scp, text and utt2lang; None for noises of 1 to 4 s in as many languages.
        recogniser: Knows the languages.
        count: How many at most.

    Raises:
        FileNotFoundError: A file of the set is not there.
        ValueError: As of `read_set`, the set is empty, or `count` is below 1.
    """
    codes = {number: code for code, number in recogniser.vocabulary.languages.items()}
    if folder is not None:
        waves, prompts, _ = read_set(folder, recogniser.vocabulary, count)
        if not waves:
            raise ValueError(f"{folder}: holds no utterance to compare by")
        return waves, {uid: codes[prompt[1]] for uid, prompt in prompts.items()}
    if count < 1:
        raise ValueError(f"--check {count}: 1 or more is needed")
    generator = torch.Generator().manual_seed(0)
    names = {f"noise{i}": list(codes.values())[i % len(codes)] for i in range(count)}
    waves = {
        uid: 0.1 * torch.randn(16000 * (1 + i % 4), generator=generator)
        for i, uid in enumerate(names)
    }
    return waves, names


def greedy_ids(
    recogniser: Recogniser, waves: Mapping[str, Tensor], languages: Mapping[str, str], limit: int
) -> dict[str, tuple[int, ...]]:
    """Return what our search finds in Whisper's 30 s window, by utterance.

    Warns where the model's own window gives another text: readers outside have no other.
    """
    prompts = {uid: recogniser.vocabulary.prompt(code) for uid, code in languages.items()}
    options = DecodingOptions(beam_size=1, max_tokens=limit)

    def ids(pad_to: str) -> dict[str, tuple[int, ...]]:
        window = dataclasses.replace(recogniser, pad_to=pad_to)
        found = decode(window, waves, prompts, options)
        return {uid: hypotheses[0].ids for uid, hypotheses in found.items()}

    whole = ids(WINDOW)
    if recogniser.pad_to != WINDOW:
        own = ids(recogniser.pad_to)
        odd = [uid for uid in whole if whole[uid] != own[uid]]
        if odd:
            log.warning(
                "%s was trained on audio padded to the %s; in the 30 s window of all readers "
                "outside, %d of %d utterances read differently, first %s: measure its error rate "
                "there before you use it",
                recogniser.name, recogniser.pad_to, len(odd), len(whole), odd[0],
            )  # fmt: skip
    return whole
