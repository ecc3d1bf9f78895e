"""Dumped sets of a recipe: waves, prompts and texts by utterance id."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from espnet_blora.data import audio
from espnet_blora.data.kaldi import read_utt2lang
from espnet_blora.data.unlabelled import spread
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
