"""Three corpora in whose new domain an adapter of mini_cs's base forgets for real.

A *new domain* is switched sentences of 3-5 words out of 45 of each language, in a way that the base
of mini_cs has not learnt:

* `mini_noisy`: 160-230 words per minute, noise 5-15 dB below the speech;
* `mini_voices`: 240-320 words per minute, high-pitched, by robotic and whispering voices with
  accents of their own;
* `mini_room`: the echo of a room, and a microphone that clips.

*Retention* is that base's own domain, 1,000 utterances of a language. `old_*` is audio of the old
domain whose texts nobody uses, of voices that no other set has; `old_fast` is faster than any
other, by other voices again. No sentence occurs in two sets of a corpus, or in mini_cs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from espnet_blora.data.mini_cs import (
    MINI_CS,
    NEW_TEST_VOICES,
    NEW_TRAIN_VOICES,
    NEW_VALID_VOICES,
    RETENTION_VOICES,
    VALID_VOICES,
    WORDS,
    Corpus,
    Set,
)

SEED = 777001
NARROW = 45  # words of each language in a new domain

_OLD = ("Alex", "Hugo", "antonio", "benjamin", "marcelo", "pedro", "shelby", "victor")
_FAST = ("Diogo", "Marco", "Mario", "ed", "miguel", "rob", "steph2", "zac")
_USUAL = (NEW_TRAIN_VOICES, NEW_VALID_VOICES, NEW_TEST_VOICES)
_UNUSUAL = (
    ("whisper", "robosoft2", "robosoft3", "robosoft4", "Storm", "UniRobot"),
    ("robosoft5", "robosoft7", "Tweaky"),
    ("robosoft", "robosoft6", "robosoft8", "klatt3"),
)


def narrow_words(seed: int = SEED) -> dict[str, tuple[str, ...]]:
    """Return the words of a new domain."""
    rng = np.random.default_rng(seed)
    return {
        language: tuple(sorted(map(str, rng.choice(words, NARROW, replace=False))))
        for language, words in WORDS.items()
    }


def _bed(
    seed: int, name: str, voices: tuple[tuple[str, ...], ...] = _USUAL, **sound: Any
) -> Corpus:
    """Return a corpus whose new domain sounds like this; `voices` are of train, valid and test."""
    words = narrow_words(seed)
    train, valid, test = (
        Set(size, "cs", several, words, 5, **sound)
        for size, several in zip((600, 250, 500), voices, strict=True)
    )
    sets = {
        f"test_{name}": test,
        "ret_en": Set(1000, "en", RETENTION_VOICES),
        "ret_zh": Set(1000, "zh", RETENTION_VOICES),
        f"valid_{name}": valid,
        "valid_en": Set(250, "en", VALID_VOICES),
        "valid_zh": Set(250, "zh", VALID_VOICES),
        "old_30s": Set(13, "base", _OLD),
        "old_2min": Set(53, "base", _OLD),
        "old_10min": Set(265, "base", _OLD),
        "old_fast": Set(370, "base", _FAST, rate=(210, 281)),
        f"train_{name}": train,
    }
    return Corpus(seed, sets, after=MINI_CS)


BEDS = {
    "mini_noisy": _bed(SEED, "noisy", rate=(160, 231), noise=(5.0, 15.0)),
    "mini_voices": _bed(
        SEED + 1,
        "voices",
        _UNUSUAL,
        rate=(240, 321),
        pitch=(60, 100),
        accents=("en-GB-x-gbclan", "en-GB-x-gbcwmd", "en-US-nyc"),
    ),
    "mini_room": _bed(SEED + 2, "room", echo=(0.5, 1.0), clipped=(0.05, 0.2)),
}
