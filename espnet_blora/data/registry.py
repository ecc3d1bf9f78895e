"""Which corpora there are; each is imported when it is asked for."""

from __future__ import annotations

import difflib
import importlib

from espnet_blora.data.records import Corpus

_ROOM = "espnet_blora.data.corpora"
_NAMES = (
    "seame arzen fisher miami ascend talcs cs_fleurs "
    "librispeech aishell commonvoice fleurs mgb2 custom"
)
CORPORA: dict[str, str] = {name: f"{_ROOM}.{name}" for name in _NAMES.split()}


def get_corpus(name: str) -> Corpus:
    """Return the corpus of that name.

    Raises: ValueError naming near misses and all there are.
    """
    if name not in CORPORA:
        near = difflib.get_close_matches(name.lower(), CORPORA, n=2)
        meant = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"corpus {name!r} is unknown{meant} There are: {', '.join(CORPORA)}")
    return importlib.import_module(CORPORA[name]).CORPUS
