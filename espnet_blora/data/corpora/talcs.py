"""TALCS: Mandarin-English lessons of online teaching, 587 h at 16 kHz.

Layout: `TALCS_corpus/{train_set,dev_set,test_set}/label.txt` with lines `<stem> <text>`, and
`wav/<stem>.wav` beside it. Nobody says who speaks: every recording is a speaker of its own, so no
figure by speaker means anything here.

English is in capitals throughout, which is no information and nothing that Whisper writes; it is
made lower case (`THIS ONE` -> `this one`; `PPT` too). Full-width letters become ASCII ones.
Scoring does not tell case or width apart, so figures stay comparable; `case=corpus` keeps both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from espnet_blora.data.corpora import tables
from espnet_blora.data.corpora.common import (
    check_sets,
    choice,
    find_root,
    half_width,
    inspect_sets,
    keep,
    present,
    single_blanks,
    speaker_name,
    utterance_id,
)
from espnet_blora.data.records import Corpus, Expected, Ledger, Utterance
from espnet_blora.text.tokens import unspaced

_SETS = {"train": Expected(), "dev": Expected(), "test": Expected()}


def find(path: Path) -> Path:
    """Return the folder of `train_set`, ...: `path` or `path/TALCS_corpus`."""
    marks = [f"{name}_set" for name in _SETS]
    return find_root(path, marks, ("", "TALCS_corpus"), "give the unpacked TALCS_corpus")


def clean(text: str, case: str = "lower") -> str:
    """Bring a transcript to what Whisper writes; `case`: `"lower"` or `"corpus"`."""
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
    check_sets("talcs", names, _SETS)
    case = choice(options, "case", ("lower", "corpus"))
    return {name: _read_set(root / f"{name}_set", ledger, case) for name in names}


def _read_set(folder: Path, ledger: Ledger, case: str) -> list[Utterance]:
    utterances = []
    present(folder, "unpack the whole TALCS_corpus")
    for where, stem, raw in tables.keyed(folder / "label.txt"):
        wave = folder / "wav" / f"{stem}.wav"
        text, speaker = clean(raw, case), speaker_name(stem)
        id = utterance_id(speaker, "0")
        utterances += keep(Utterance(id, speaker, "zh", text, wave, where=where), ledger)
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
    inspect=partial(inspect_sets, read, _SETS),
)
