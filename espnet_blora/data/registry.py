"""Which corpora there are; each is imported when it is asked for.
Names of data directories that say where their utterances come from.

`CORPUS[_CHOICE]_SET`: `librispeech_test_clean`, `aishell_test`, `commonvoice_zh-CN_test`,
`fleurs_cmn_hans_cn_test`, `fisher_mono_eval`. The choice in the middle is the value of the
corpus's option in `CHOICES`: which language of a corpus that has many.
"""

from __future__ import annotations

import difflib
import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

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


CHOICES = ("locale", "lang", "pair")


class SetName(NamedTuple):
    """What the name of a data directory says."""

    name: str
    corpus: Corpus
    set: str
    options: dict[str, str]


def parse_set_name(name: str) -> SetName:
    """Read the name of a data directory.

    Raises: ValueError for a corpus that is unknown, a set that it has not, or a choice that is
        missing or not to be made.
    """
    found = [c for c in CORPORA if name.startswith(f"{c}_")]
    if not found:
        raise ValueError(
            f"set {name!r}: its name begins with no corpus that is known ({', '.join(CORPORA)}); "
            "put a directory of your own into data/ before stage 2"
        )
    corpus = get_corpus(max(found, key=len))
    rest = name.removeprefix(f"{corpus.name}_")
    choice = next((c for c in CHOICES if c in corpus.options), None)
    for part in sorted(corpus.sets, key=len, reverse=True):
        if rest == part:
            if choice:
                raise ValueError(
                    f"set {name!r}: {corpus.name} has many languages; its sets are called "
                    f"{corpus.name}_<{choice}>_{part}"
                )
            return SetName(name, corpus, part, {})
        if choice and rest.endswith(f"_{part}"):
            return SetName(name, corpus, part, {choice: rest.removesuffix(f"_{part}")})
    raise ValueError(f"set {name!r}: {corpus.name} has the sets {', '.join(corpus.sets)}")


def corpus_folder(corpus: Corpus, environment: Mapping[str, str] | None = None) -> Path | str:
    """Return the folder that a corpus's variable names, or say why there is none."""
    value = (os.environ if environment is None else environment).get(corpus.variable, "")
    if not value:
        return (
            f"{corpus.variable} is not set: set it to the folder of {corpus.title} in the "
            f"environment or in local/db.local.sh ({corpus.obtain})"
        )
    try:
        corpus.find(Path(value))
    except FileNotFoundError as error:
        return f"{corpus.variable}={value}: {error}"
    return Path(value)
