"""TALCS: Mandarin-English lessons of online teaching, 587 h at 16 kHz.

Layout: `TALCS_corpus/{train_set,dev_set,test_set}/label.txt` with lines `<stem> <text>`, and
`wav/<stem>.wav` beside it. Speakers are not named: every recording counts as a speaker of its own,
so figures per speaker mean nothing here.

English is in capitals throughout. This carries no information, and Whisper does not write so; it
becomes lower case (`THIS ONE` -> `this one`; `PPT` too). Full-width letters become ASCII ones.
Scoring ignores case and width, so figures stay comparable; `case=corpus` keeps both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from espnet_blora.data.corpora import tables
from espnet_blora.data.corpora.common import (
    choice,
    existing,
    find_root,
    half_width,
    keep,
    single_blanks,
    whole_recording,
)
from espnet_blora.data.records import Corpus, Expected, Ledger, Utterance
from espnet_blora.text.tokens import unspaced

_SETS = {"train": Expected(), "dev": Expected(), "test": Expected()}


def find(path: Path) -> Path:
    """Return the folder of `train_set`, ...: `path` or `path/TALCS_corpus`."""
    marks = [f"{name}_set" for name in _SETS]
    return find_root(path, marks, ("", "TALCS_corpus"), "give the unpacked TALCS_corpus")


def clean(text: str, case: str = "lower") -> str:
    """Return a transcript as Whisper writes text; `case` is `"lower"` or `"corpus"`."""
    if case == "lower":
        text = half_width(text).lower()
    return unspaced(single_blanks(text))


def read(
    root: Path, names: Sequence[str], ledger: Ledger, options: Mapping[str, str]
) -> dict[str, list[Utterance]]:
    """Read sets in the order of `label.txt`; a line without text is left out and listed.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: A stem is there twice; names file and line.
    """
    case = choice(options, "case", ("lower", "corpus"))
    return {name: _read_set(root / f"{name}_set", ledger, case) for name in names}


def _read_set(folder: Path, ledger: Ledger, case: str) -> list[Utterance]:
    utterances = []
    existing(folder, "unpack the whole TALCS_corpus")
    for where, stem, raw in tables.keyed(folder / "label.txt"):
        wave = folder / "wav" / f"{stem}.wav"
        utterance = whole_recording(stem, "0", "zh", clean(raw, case), wave, where)
        utterances += keep(utterance, ledger)
    return utterances


CORPUS = Corpus(
    name="talcs",
    title="TALCS, Mandarin-English online lessons, China",
    variable="TALCS",
    licence="free for academic use (see the page where it is fetched)",
    obtain="ai.100tal.com/openData/voice",
    sets=_SETS,
    languages=("zh",),
    options={"case": "lower (default): English in lower case, ASCII letters; corpus: as it is"},
    find=find,
    read=read,
)
