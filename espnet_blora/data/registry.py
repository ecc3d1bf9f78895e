"""The corpora by name, and names of data directories that say where their utterances come from.

The module of a corpus is imported when it is asked for.

Data directories are called `CORPUS[_CHOICE]_SET`: `librispeech_test_clean`, `aishell_test`,
`commonvoice_zh-CN_test`, `fleurs_cmn_hans_cn_test`, `fisher_mono_eval`. The choice in the middle is
the value of the corpus's option in `CHOICES`: the language, where a corpus has many.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from espnet_blora.data.records import Corpus
from espnet_blora.utils.mistakes import did_you_mean

_ROOM = "espnet_blora.data.corpora"
_NAMES = (
    "seame arzen fisher miami ascend talcs cs_fleurs "
    "librispeech aishell commonvoice fleurs mgb2 custom"
)
CORPORA: dict[str, str] = {name: f"{_ROOM}.{name}" for name in _NAMES.split()}
CHOICES = ("locale", "lang", "pair")


def get_corpus(name: str) -> Corpus:
    """Return the corpus of that name.

    Raises:
        ValueError: There is no such corpus; names near misses and all corpora.
    """
    if name not in CORPORA:
        near = did_you_mean(name.lower(), CORPORA, 2) or ";"
        raise ValueError(f"corpus {name!r} is unknown{near} there are: {', '.join(CORPORA)}")
    return importlib.import_module(CORPORA[name]).CORPUS


class SetName(NamedTuple):
    """The parts of a data directory's name."""

    name: str
    corpus: Corpus
    set: str
    options: dict[str, str]


def parse_set_name(name: str) -> SetName:
    """Read the name of a data directory.

    Raises:
        ValueError: The corpus is unknown, it does not have the set, or the choice is missing or not
            possible.
    """
    # The longest name of a corpus with which it begins.
    corpora = [c for c in CORPORA if name.startswith(f"{c}_")]
    if not corpora:
        raise ValueError(
            f"set {name!r}: its name does not begin with a known corpus ({', '.join(CORPORA)}); "
            "put a directory of your own into data/ before stage 2"
        )
    corpus = get_corpus(max(corpora, key=len))
    # The set at its end, and between the two the choice, if the corpus needs one.
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
