"""A corpus of tones small enough to see through: three recordings, a table of utterances.

Each utterance's tone is its own, so that a clip shows whence it was cut.
"""

import errno
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from espnet_blora.data.records import Corpus, Expected, Item, Ledger, Utterance
from tests.data.layouts import Layout, speech

_SUFFIXES = ("flac", "wav", "sph")


def make(root: Path, utterances: int = 6, seed: int = 0) -> Layout:
    """Lay out `audio/<name>.<suffix>` and `table.tsv`; the last line of it is not whole."""
    texts, lines, pieces = {}, [], {}
    for n in range(utterances):
        suffix = _SUFFIXES[n % 3]
        start = 0.5 + n // 3
        speaker = f"s{n % 3}"
        key = f"{speaker}-{n:03d}"
        texts[key] = f"我们 want {n + seed}"
        pieces.setdefault(suffix, []).append((start, speech.tone(0.5, 300 + 50 * n, 8000)))
        channel = "1" if suffix == "sph" else ""
        end = start + 0.5
        lines.append(f"{key}\t{speaker}\t{suffix}\t{start}\t{end}\t{channel}\t{texts[key]}\n")
    for suffix, tones in pieces.items():
        wave = speech.recording(tones, 1.0 + (utterances + 2) // 3, 8000)
        if suffix == "sph":
            wave = speech.stereo(np.zeros_like(wave), wave)
        speech.write(root / "audio" / f"{suffix}.{suffix}", wave, 8000)
    lines.append("not whole\n")
    (root / "table.tsv").write_text("".join(reversed(lines)), encoding="utf-8")
    return Layout(root, {"all": texts}, {"all": dict.fromkeys(texts, "zh")}, {"missing field": 1})


def find(path: Path) -> Path:
    if not (path / "table.tsv").is_file():
        raise FileNotFoundError(errno.ENOENT, "no table.tsv", str(path))
    return path


def read(
    root: Path, sets: Sequence[str], ledger: Ledger, options: Mapping[str, str]
) -> dict[str, list[Utterance]]:
    audio = {p.stem: p for p in (root / "audio").iterdir()}
    utterances = []
    for number, line in enumerate((root / "table.tsv").read_text("utf-8").splitlines(), 1):
        fields = line.split("\t")
        if len(fields) != 7:
            ledger.skip(f"table.tsv:{number}", "", "missing field", line)
            continue
        key, speaker, name, start, end, channel, text = fields
        utterances.append(
            Utterance(
                key,
                speaker,
                options.get("language", "zh"),
                text,
                audio.get(name, root / "audio" / f"{name}.wav"),
                float(start),
                float(end),
                int(channel) if channel else None,
                f"table.tsv:{number}",
            )
        )
    utterances.sort(key=lambda u: u.id)
    return {name: utterances if name == "all" else utterances[:2] for name in sets}


def inspect(root: Path, options: Mapping[str, str]) -> list[Item]:
    found = len(list((root / "audio").iterdir()))
    return [Item("recordings", str(found), "3", found == 3)]


CORPUS = Corpus(
    name="toy",
    title="Toy, tones",
    variable="TOY",
    licence="none",
    obtain="made by the tests",
    sets={"all": Expected(6, 0.5, "nobody"), "two": Expected()},
    languages=("zh", "en"),
    options={"language": "of all"},
    find=find,
    read=read,
    inspect=inspect,
)
