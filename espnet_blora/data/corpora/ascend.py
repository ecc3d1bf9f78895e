"""ASCEND: spontaneous Mandarin-English conversations recorded in Hong Kong, 10.62 h, 23 speakers.

Layout: `{train,validation,test}_metadata.csv` and `waves/`. Every utterance is a wave of its
own; `language` says whether it is `zh`, `en` or `mixed`.

Whisper's prompt is `zh` for all of them, as in a real code-switching test nobody says beforehand
which utterances are English. `prompt=utterance` gives `en` to the English ones, for analysis.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from espnet_blora.data.corpora import tables
from espnet_blora.data.corpora.common import (
    choice,
    existing,
    find_root,
    header_seconds,
    keep,
    number_from_0,
    whole_recording,
)
from espnet_blora.data.records import Corpus, Expected, Ledger, Utterance

_SOURCE = "ASCEND paper (LREC 2022)"
_SETS = {
    "train": Expected(9869, None, _SOURCE),
    "valid": Expected(1130, None, _SOURCE),
    "test": Expected(1315, None, _SOURCE),
}
_FILES = {
    "train": "train_metadata.csv",
    "valid": "validation_metadata.csv",
    "test": "test_metadata.csv",
}
_NEEDED = ("file_name", "transcription", "duration", "language", "original_speaker_id")
_LANGUAGES = ("zh", "en", "mixed")
_UNKNOWN = re.compile(r"\[\s*unk\s*\]", re.IGNORECASE)  # a word that was not understood
_TOLERANCE = 0.1  # s between the table's duration and the wave's


def find(path: Path) -> Path:
    """Return the folder with the metadata tables: `path` or `path/ASCEND`."""
    hint = "the view as parquet files is not read: fetch the tables and waves.tar.bz2 instead"
    return find_root(path, list(_FILES.values()), ("", "ASCEND", "main"), hint)


def read(
    root: Path, names: Sequence[str], ledger: Ledger, options: Mapping[str, str]
) -> dict[str, list[Utterance]]:
    """Read sets in the order of their tables.

    The mark `[UNK]` is removed, with a note. An utterance without text is left out and listed; a
    wave whose length differs from the table's by more than 0.1 s is kept and noted.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: A row is malformed or its language unknown; names file and line.
    """
    prompt = choice(options, "prompt", ("zh", "utterance"))
    if not (root / "waves").is_dir():
        raise FileNotFoundError(f"{root}/waves: no such directory; unpack waves.tar.bz2 there")
    return {name: _read_set(root, _FILES[name], ledger, prompt) for name in names}


def _read_set(root: Path, file: str, ledger: Ledger, prompt: str) -> list[Utterance]:
    utterances = []
    table = existing(root / file, "fetch it from where the waves come from")
    for where, row in tables.csv_rows(table, _NEEDED):
        wave = root / row["file_name"]
        speaker = f"spk{row['original_speaker_id'].strip()}"
        if row["language"] not in _LANGUAGES:
            raise ValueError(
                f"{where}: language {row['language']!r}; expected {', '.join(_LANGUAGES)}"
            )
        language = "en" if row["language"] == "en" and prompt == "utterance" else "zh"
        text = _UNKNOWN.sub(" ", row["transcription"])
        utterance = whole_recording(speaker, wave.stem, language, text, wave, where)
        for kept in keep(utterance, ledger):
            if text != row["transcription"]:
                ledger.note(where, kept.id, "[UNK] removed", row["transcription"])
            _compare_durations(kept, row["duration"], ledger)
            utterances.append(kept)
    return utterances


def _compare_durations(utterance: Utterance, duration: str, ledger: Ledger) -> None:
    """Note a wave whose length is not that of the table."""
    expected = number_from_0(duration, f"{utterance.where}: duration")
    seconds = header_seconds(utterance.audio)
    if seconds is not None and abs(seconds - expected) > _TOLERANCE:
        detail = f"{seconds:.3f} s, told {expected} s"
        ledger.note(utterance.where, utterance.id, "other duration than told", detail)


CORPUS = Corpus(
    name="ascend",
    title="ASCEND, Mandarin-English conversations, Hong Kong",
    variable="ASCEND",
    licence="CC BY-SA 4.0",
    obtain="huggingface.co/datasets/CAiRE/ASCEND: the metadata tables and waves.tar.bz2, unpacked",
    sets=_SETS,
    languages=("zh", "en"),
    options={"prompt": "zh (default): Whisper's prompt is zh for all; utterance: en for English"},
    find=find,
    read=read,
)
