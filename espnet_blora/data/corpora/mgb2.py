"""MGB-2: Arabic broadcasts of Al Jazeera, 1,200 h; a retention set of Arabic.

Layout: `{dev,test}/` with `wav.scp` (paths relative to it), `segments.non_overlap_speech` and
`text.non_overlap_speech` in Buckwalter's transliteration; `train/wav` and
`train/xml/utf8/*.xml` with segments that an aligner matched to the captions. Segments whose word
matching error rate is above `wmer` (80) are not trained on, as in Kaldi's recipe.

Text is in Arabic letters with diacritics (scoring can remove them); a word of the evaluation sets
with letters that Buckwalter's table lacks is left as it is and noted.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from espnet_blora.data.corpora import tables
from espnet_blora.data.corpora.common import (
    existing,
    find_root,
    keep,
    number_from_0,
    single_blanks,
    speaker_name,
    utterance_id,
)
from espnet_blora.data.records import Corpus, Expected, Ledger, Utterance

# Tim Buckwalter's table, with the letters for g, p, ch and v that MGB's makers use: the signs for
# each run of Arabic letters in the order of Unicode, beside the run's first code point.
_RUNS = {
    0x0621: "'|>&<}AbptvjHxd*rzs$SDTZEg",  # hamza and its bearers, then alef to ghain
    0x0640: "_fqklmnhwYyFNKaui~o",  # tatweel, feh to yeh, then the short vowels
    0x0670: "`{",  # dagger alef, alef wasla
    0x067E: "P",
    0x0686: "J",
    0x06A4: "V",
    0x06AF: "G",
}
BUCKWALTER = {
    sign: chr(code) for first, signs in _RUNS.items() for code, sign in enumerate(signs, first)
}
_TO_ARABIC = str.maketrans(BUCKWALTER)
_SOURCE = "counts that lhotse's recipe checks; train with WMER <= 80"
_SETS = {
    "train": Expected(375103, None, _SOURCE),
    "dev": Expected(5002, None, _SOURCE),
    "test": Expected(5365, None, _SOURCE),
}
_ATTRIBUTES = ("id", "starttime", "endtime", "who", "WMER")
_WMER = 80.0


def to_arabic(text: str) -> tuple[str, list[str]]:
    """Return the text in Arabic letters, and the words that were left as they are.

    A word with a Latin letter that the table lacks (`facebook`: c and e) cannot be Arabic and is
    left as it is; other characters that the table lacks (digits, punctuation) stay.
    """
    words, left = [], []
    for word in text.split(" "):
        if any(c.isascii() and c.isalpha() and c not in BUCKWALTER for c in word):
            left.append(word)
            words.append(word)
        else:
            words.append(word.translate(_TO_ARABIC))
    return " ".join(words), left


def find(path: Path) -> Path:
    """Return the folder of `train`, `dev` and `test`: `path` or `path/mgb2`."""
    marks = ["dev/text.non_overlap_speech", "test/text.non_overlap_speech", "train/xml/utf8"]
    return find_root(path, marks, ("", "mgb2", "MGB2"), "give the unpacked MGB-2")


def read(
    root: Path, names: Sequence[str], ledger: Ledger, options: Mapping[str, str]
) -> dict[str, list[Utterance]]:
    """Read sets: `dev` and `test` in the order of `text`, `train` sorted by XML file.

    Left out and listed: segments without text, time or (evaluation sets) entry in `segments`, and
    those of `train` above the word matching error rate.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: A line or an XML file is malformed; names file and line, or file and segment.
    """
    most = number_from_0(options.get("wmer", str(_WMER)), "option wmer")
    read_sets = {}
    for name in names:
        folder = existing(root / name, "unpack the whole of MGB-2")
        if name == "train":
            read_sets[name] = list(_train(folder, most, ledger))
        else:
            read_sets[name] = list(_evaluation(folder, ledger))
    return read_sets


def _evaluation(folder: Path, ledger: Ledger) -> Iterator[Utterance]:
    """Yield the utterances of `dev` or `test`."""
    # Recordings, and the stretches of them that were transcribed.
    recordings = {
        recording: _recording(folder, place)
        for _, recording, place in tables.keyed(folder / "wav.scp")
    }
    segments = {}
    for where, key, value in tables.keyed(folder / "segments.non_overlap_speech"):
        fields = value.split()
        if len(fields) != 3 or fields[0] not in recordings:
            raise ValueError(
                f"{where}: {value!r}; expected '<recording of wav.scp> <start s> <end s>'"
            )
        start, end = (number_from_0(field, where) for field in fields[1:])
        segments[key] = (fields[0], start, end)
    # Texts of these stretches.
    for where, key, raw in tables.keyed(folder / "text.non_overlap_speech"):
        speaker, id = _names(key)
        text, left = to_arabic(single_blanks(raw))
        if left:
            ledger.note(where, id, "words outside Buckwalter's table", " ".join(left))
        if key not in segments:
            ledger.skip(where, id, "not in segments")
            continue
        recording, start, end = segments[key]
        wave = recordings[recording]
        yield from keep(Utterance(id, speaker, "ar", text, wave, start, end, where=where), ledger)


def _recording(folder: Path, place: str) -> Path:
    """Return the audio of an entry of `wav.scp`, whose path may be that of another machine."""
    path = folder / place
    return path if path.is_file() else folder / "wav" / Path(place).name


def _names(key: str) -> tuple[str, str]:
    """Return speaker and utterance id; the speaker is `<recording>_<speaker>` of `key`."""
    fields = key.split("_")
    speaker, rest = fields[:2], fields[2:]
    if not rest:
        speaker, rest = fields[:1], fields[1:] or ["0"]
    name = speaker_name(*speaker)
    return name, utterance_id(name, "_".join(rest))


def _train(folder: Path, most: float, ledger: Ledger) -> Iterator[Utterance]:
    """Yield the utterances of `train` whose word matching error rate is at most `most`."""
    files = sorted((folder / "xml" / "utf8").glob("*.xml"))
    if not files:
        raise FileNotFoundError(f"{folder / 'xml' / 'utf8'}: holds no *.xml; unpack train again")
    # The same stretch may be listed twice in a file.
    for file in files:
        ids: Counter[str] = Counter()
        for segment in _segments(file):
            where = f"{file}:{segment.get('id', '?')}"
            if lacking := [name for name in _ATTRIBUTES if name not in segment.attrib]:
                raise ValueError(f"{where}: a segment without {', '.join(lacking)}")
            start, end, wmer = (
                number_from_0(segment.attrib[name], f"{where} {name}")
                for name in ("starttime", "endtime", "WMER")
            )
            recording = segment.attrib["id"].partition("_utt")[0].replace("_", "-")
            speaker, id = _train_names(segment.attrib["who"], recording, start, end)
            if wmer > most:
                ledger.skip(where, id, f"WMER above {most:g}", f"{wmer:g}")
                continue
            ids[id] += 1
            if ids[id] > 1:
                ledger.skip(where, id, "listed twice")
                continue
            words = (element.text or "" for element in segment.iter("element"))
            text, wave = single_blanks(" ".join(words)), folder / "wav" / f"{recording}.wav"
            utterance = Utterance(id, speaker, "ar", text, wave, start, end, where=where)
            yield from keep(utterance, ledger)


def _segments(file: Path) -> Iterator[ET.Element]:
    """Yield the segments of an XML file."""
    try:
        yield from ET.parse(file).getroot().iter("segment")
    except ET.ParseError as error:
        line = error.position[0]
        raise ValueError(f"{file}:{line}: not well-formed XML: {error}; fetch it again") from error


def _train_names(who: str, recording: str, start: float, end: float) -> tuple[str, str]:
    """Return `<recording>_speaker4` of `..._speaker4_align`, and an id with times in cs."""
    number = who.partition("speaker")[2].partition("_")[0]
    speaker = speaker_name(recording, f"speaker{number or 'unknown'}")
    return speaker, utterance_id(speaker, f"{round(start * 100):07d}-{round(end * 100):07d}")


CORPUS = Corpus(
    name="mgb2",
    title="MGB-2, Arabic broadcasts of Al Jazeera",
    variable="MGB2",
    licence="QCRI and Al Jazeera, for research, not commercial",
    obtain="arabicspeech.org/mgb2 (a form)",
    sets=_SETS,
    languages=("ar",),
    options={"wmer": "highest word matching error rate of training segments, in % (default 80)"},
    find=find,
    read=read,
)
