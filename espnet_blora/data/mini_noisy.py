"""The corpus mini_noisy: a new domain in which an adapter of mini_cs's base forgets for real.

The *new domain* is switched sentences of 3-5 words out of 45 of each language, spoken at 160-230
words per minute with noise 5-15 dB below the speech: narrower, faster and far noisier than what the
base of mini_cs has learnt. *Retention* is that base's own domain, 1,000 utterances of a language.
`old_*` is audio of the old domain whose texts nobody uses, of voices that no other set has;
`old_fast` is faster than any other, by other voices again. No sentence occurs in two sets, or in
mini_cs.
"""

from __future__ import annotations

import numpy as np

from espnet_blora.data import mini_cs
from espnet_blora.data.mini_cs import MINI_CS, WORDS, Corpus, Set

SEED = 777001
NARROW = 45  # words of each language in the new domain

_OLD = ("Alex", "Hugo", "antonio", "benjamin", "marcelo", "pedro", "shelby", "victor")
_FAST = ("Diogo", "Marco", "Mario", "ed", "miguel", "rob", "steph2", "zac")


def narrow_words() -> dict[str, tuple[str, ...]]:
    """Return the words of the new domain."""
    rng = np.random.default_rng(SEED)
    return {
        language: tuple(sorted(map(str, rng.choice(words, NARROW, replace=False))))
        for language, words in WORDS.items()
    }


def _noisy(size: int, voices: tuple[str, ...]) -> Set:
    """Return a set of the new domain."""
    return Set(size, "cs", voices, narrow_words(), 5, rate=(160, 231), noise=(5.0, 15.0))


MINI_NOISY = Corpus(
    SEED,
    {
        "test_noisy": _noisy(500, mini_cs._NEW_TEST),
        "ret_en": Set(1000, "en", mini_cs._RETENTION),
        "ret_zh": Set(1000, "zh", mini_cs._RETENTION),
        "valid_noisy": _noisy(250, mini_cs._NEW_VALID),
        "valid_en": Set(250, "en", mini_cs._VALID),
        "valid_zh": Set(250, "zh", mini_cs._VALID),
        "old_30s": Set(13, "base", _OLD),
        "old_2min": Set(53, "base", _OLD),
        "old_10min": Set(265, "base", _OLD),
        "old_fast": Set(370, "base", _FAST, rate=(210, 281)),
        "train_noisy": _noisy(600, mini_cs._NEW_TRAIN),
    },
    after=MINI_CS,
)
