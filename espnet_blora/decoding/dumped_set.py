"""Dumped sets of a recipe: waves, texts and prompts by utterance id."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from espnet_blora.data import audio
from espnet_blora.data.kaldi import read_utt2lang
from espnet_blora.utils.keyed import read_keyed
from espnet_blora.whisper.vocabulary import Vocabulary


def read_waves(folder: Path, most: int | None = None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the waves and texts of a dumped set, by utterance id.

    Args:
        folder: Holds wav.scp and text.
        most: So many utterances at most, spread over the sorted ids; by default all.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: The two files do not hold the same utterances, or `most` is below 1.
    """
    paths, texts = read_keyed(folder / "wav.scp"), read_keyed(folder / "text")
    odd = sorted(paths.keys() ^ texts.keys())
    if odd:
        raise ValueError(
            f"{folder}: wav.scp and text do not hold the same utterances, first {odd[0]}; run "
            "utils/fix_data_dir.sh on it"
        )
    if most is not None and most < 1:
        raise ValueError(f"{most} utterances of each set are asked for; allowed: 1 or more")
    count = min(most or len(paths), len(paths))
    ids = sorted(paths)
    kept = [ids[number * len(ids) // count] for number in range(count)]
    waves = {uid: torch.from_numpy(audio.read(paths[uid])) for uid in kept}
    return waves, {uid: texts[uid] for uid in kept}


def read_set(
    folder: Path, vocabulary: Vocabulary, most: int | None = None
) -> tuple[dict[str, Tensor], dict[str, list[int]], dict[str, str]]:
    """Read waves, prompts and references of a dumped set, by utterance id; see `read_waves`.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: As of `read_waves`; an utterance without a language.
    """
    language = read_utt2lang(folder / "utt2lang", vocabulary.languages)
    waves, references = read_waves(folder, most)
    missing = sorted(waves.keys() - language.keys())
    if missing:
        raise ValueError(
            f"{folder / 'utt2lang'}: lacks {len(missing)} utterances of wav.scp, first "
            f"{missing[0]}; add the line '{missing[0]} CODE'"
        )
    return waves, {uid: vocabulary.prompt(language[uid]) for uid in waves}, references
