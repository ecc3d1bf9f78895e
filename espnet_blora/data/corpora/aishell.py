"""AISHELL-1: read Mandarin, 16 kHz; a retention set of Mandarin.

Layout: `data_aishell/transcript/aishell_transcript_v0.8.txt` with the lines of all sets, and
`data_aishell/wav/{train,dev,test}/S<speaker>/BAC009S<speaker>W<number>.wav`, the speakers'
archives unpacked. Some waves have no transcript.

Transcripts are cut into words by blanks; all blanks go, as in ESPnet's recipe. The few Latin
letters (`Ｔ 恤`), full-width or not, become ASCII capitals: `T恤`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from espnet_blora.data.corpora import tables
from espnet_blora.data.corpora.common import (
    existing,
    find_root,
    half_width,
    keep,
    single_blanks,
    utterance_id,
)
from espnet_blora.data.records import Corpus, Expected, Ledger, Utterance

_SOURCE = "transcripts of each set, openslr.org/33"
_SETS = {
    "train": Expected(120098, None, _SOURCE),
    "dev": Expected(14326, None, _SOURCE),
    "test": Expected(7176, None, _SOURCE),
}
_TRANSCRIPT = "transcript/aishell_transcript_v0.8.txt"


def find(path: Path) -> Path:
    """Return the folder with `transcript` and `wav`: `path` or `path/data_aishell`."""
    hint = "give the unpacked data_aishell"
    return find_root(path, [_TRANSCRIPT], ("", "data_aishell"), hint)


def clean(text: str) -> str:
    """Take the blanks between words out, and bring Latin letters to ASCII capitals."""
    return single_blanks(half_width(text)).replace(" ", "").upper()


def read(
    root: Path, names: Sequence[str], ledger: Ledger, options: Mapping[str, str]
) -> dict[str, list[Utterance]]:
    """Read sets sorted by speaker and wave.

    Left out and listed: a wave without transcript, and an empty transcript. A transcript belongs to
    the set that has its speaker's folder, even if its wave is not there.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: An id is there twice; names file and line.
    """
    transcripts = {key: (where, text) for where, key, text in tables.keyed(root / _TRANSCRIPT)}
    by_speaker: dict[str, list[str]] = {}
    for key in transcripts:
        by_speaker.setdefault(_speaker(key), []).append(key)
    return {name: _read_set(root / "wav" / name, transcripts, by_speaker, ledger) for name in names}


def _speaker(key: str) -> str:
    """Return speaker `S0002` of `BAC009S0002W0122`, or "" for an id of another form."""
    head, letter, rest = key.partition("S")
    return letter + rest.partition("W")[0] if head == "BAC009" else ""


def _read_set(
    folder: Path,
    transcripts: Mapping[str, tuple[str, str]],
    by_speaker: Mapping[str, Sequence[str]],
    ledger: Ledger,
) -> list[Utterance]:
    utterances = []
    remedy = "unpack every archive: for a in wav/*.tar.gz; do tar -xzf $a -C wav; done"
    speakers = sorted(p for p in existing(folder, remedy).iterdir() if p.is_dir())
    if not speakers:
        raise FileNotFoundError(f"{folder}: holds no folders of speakers")
    for speaker in speakers:
        waves = {wave.stem: wave for wave in sorted(speaker.glob("*.wav"))}
        for key in sorted(waves.keys() | set(by_speaker.get(speaker.name, ()))):
            id = utterance_id(speaker.name, key)
            wave = waves.get(key, speaker / f"{key}.wav")
            if key not in transcripts:
                ledger.skip(str(wave), id, "no transcript")
                continue
            where, raw = transcripts[key]
            utterance = Utterance(id, speaker.name, "zh", clean(raw), wave, where=where)
            utterances += keep(utterance, ledger)
    return utterances


CORPUS = Corpus(
    name="aishell",
    title="AISHELL-1 (OpenSLR 33), read Mandarin",
    variable="AISHELL",
    licence="Apache-2.0",
    obtain="openslr.org/33: data_aishell.tgz, with the archives in wav/ unpacked too",
    sets=_SETS,
    languages=("zh",),
    find=find,
    read=read,
)
