"""Text: scripts of characters, tokens for scoring, named normalisations. Imports nothing of
ours."""

from espnet_blora.text.normalise import NORMALISATIONS, Normalisation
from espnet_blora.text.scripts import is_han, is_han_kana, is_kana, script_of
from espnet_blora.text.tokens import characters, mixed_tokens, script_of_token, words

__all__ = [
    "NORMALISATIONS",
    "Normalisation",
    "characters",
    "is_han",
    "is_han_kana",
    "is_kana",
    "mixed_tokens",
    "script_of",
    "script_of_token",
    "words",
]
