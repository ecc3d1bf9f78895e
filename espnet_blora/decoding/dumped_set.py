"""Dumped sets of a recipe by utterance id, and utterances by which an export is compared."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from espnet_blora.data import audio
from espnet_blora.data.kaldi import read_utt2lang
from espnet_blora.data.unlabelled import spread
from espnet_blora.decoding.batch import decode
from espnet_blora.decoding.options import DecodingOptions
from espnet_blora.decoding.recogniser import Recogniser
from espnet_blora.utils.keyed import read_keyed
from espnet_blora.whisper.vocabulary import Vocabulary


def read_set(
    folder: Path, vocabulary: Vocabulary, most: int | None = None
) -> tuple[dict[str, Tensor], dict[str, list[int]], dict[str, str]]:
    """Read waves, prompts and references of a dumped set, by utterance id.

    Args:
        folder: Holds wav.scp, text and utt2lang.
        vocabulary: Makes the prompts, and knows the languages.
        most: So many utterances at most, spread over the sorted ids; by default all.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: The files do not hold the same utterances, an utterance has no language, or
            `most` is below 1.
    """
    language = read_utt2lang(folder / "utt2lang", vocabulary.languages)
    paths, texts = read_keyed(folder / "wav.scp"), read_keyed(folder / "text")
    if odd := sorted(paths.keys() ^ texts.keys()):
        raise ValueError(
            f"{folder}: wav.scp and text do not hold the same utterances, first {odd[0]}; run "
            "utils/fix_data_dir.sh on it"
        )
    if missing := sorted(paths.keys() - language.keys()):
        raise ValueError(
            f"{folder / 'utt2lang'}: lacks {len(missing)} utterances of wav.scp, first "
            f"{missing[0]}; add the line '{missing[0]} CODE'"
        )
    kept = spread(sorted(paths), most)
    waves = {uid: torch.from_numpy(audio.read(paths[uid])) for uid in kept}
    prompts = {uid: vocabulary.prompt(language[uid]) for uid in kept}
    return waves, prompts, {uid: texts[uid] for uid in kept}


# ---- what an export is compared on ----

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
