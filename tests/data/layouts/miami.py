"""Bangor Miami laid out as its repository and audio are. All names and words are invented.

`fixture1` is mainly English, with a WAV file; the others are mainly Spanish, `fixture2` with an
MP3 file. Monolingual utterances of the first are `mono_test`; those of the second and fourth are
`mono_train`, and `train` and `valid`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.data.layouts import Layout, speech


class Said(NamedTuple):
    """A main line: set ("" for none), speaker, CHAT, clean text, translation, reason if unfit."""

    set: str
    speaker: str
    raw: str
    clean: str
    english: str | None = "it means something else"
    reason: str = ""
    language: str = ""  # other than the conversation's
    seconds: float | None = None
    timed: bool = True


CS, TEST, TRAIN = "cs_test", "mono_test", "mono_train"
FIRST = (
    Said(
        CS,
        "ABC",
        "and then she told me que@s:spa no@s:spa venía@s:spa .",
        "and then she told me que no venía.",
    ),
    Said(
        CS,
        "DEF",
        "<she is> [//] she's at@s:eng&spa la@s:spa (.) o_k xxx +//.",
        "she is she's at la ok",
    ),
    Said(
        CS,
        "ABC",
        "[- spa] pero (es)tá well@s:eng &=laughs &th ‡ no ?",
        "pero está well, no?",
        language="es",
    ),
    Said(
        TEST,
        "DEF",
        "[- spa] qué bueno , San_Antonio no: [?] .",
        "qué bueno, San Antonio no.",
        language="es",
    ),
    Said(TEST, "ABC", "eh@s:eng&spa &-um nice [=! laughing] +...", "eh um nice"),
    Said("", "ABC", "www .", "", reason="untranscribed (www)"),
    Said("", "DEF", "xxx (..) &=coughs .", "", reason="empty after cleaning"),
    Said("", "DEF", "yeah .", "yeah.", english=None, reason="no translation"),
    Said("", "DEF", "right .", "right.", english="right .", reason="translation is the transcript"),
    Said("", "ABC", "sí@s:spa .", "sí.", reason="shorter than 0.3 s", seconds=0.25),
    Said("", "ABC", "hola@s:spa there .", "hola there.", reason="no time mark", timed=False),
)
SECOND = (
    Said(CS, "GHI", "vamos a shopear@s:spa+eng mañana .", "vamos a shopear mañana."),
    Said(CS, "GHI", '+" dijo “yes@s:eng” , \n\tsin_duda [>] .', "dijo yes, sin duda."),
    Said(
        TRAIN,
        "JKL",
        "bueno (.) la [/] la vecina 0está llegó ayer .",
        "bueno la la vecina llegó ayer.",
    ),
)
THIRD = (Said(CS, "MNO", "el parking@s:eng está lleno .", "el parking está lleno."),)
FOURTH = (Said(TRAIN, "PQR", "mañana vamos a la playa .", "mañana vamos a la playa."),)
NUMBERS = "uno dos tres cuatro cinco seis siete ocho nueve diez".split()


@dataclass(frozen=True)
class MiamiLayout(Layout):
    """Also where the published table of these utterances lies."""

    mapping: Path = Path()
    raw: dict[str, str] = field(default_factory=dict)


def _filled(lines: Sequence[Said], utterances: int) -> list[Said]:
    """Lines with as many of each of their sets as asked for."""
    result = list(lines)
    for name in dict.fromkeys(line.set for line in lines if line.set):
        of_set = [line for line in lines if line.set == name]
        speaker = of_set[0].speaker
        share = (utterances + 1) // 2 if name == CS else utterances
        for line in of_set[share:]:
            result.remove(line)
        for number in range(len(of_set), share):
            word, mark = NUMBERS[number % 10], "@s:eng" if name == CS else ""
            raw = f"[- spa] la casa {word} tiene garden{mark} ."
            made = Said(name, speaker, raw, f"la casa {word} tiene garden.", language="es")
            result.append(made)
    return result


def make(root: Path, utterances: int = 4, seed: int = 0) -> MiamiLayout:
    """Lay out about `utterances` a set in `root/beta` and `root/audio`."""
    texts: dict[str, dict[str, str]] = {CS: {}, TEST: {}, TRAIN: {}}
    languages: dict[str, dict[str, str]] = {CS: {}, TEST: {}, TRAIN: {}}
    skips: dict[str, int] = {}
    rows = ["global_idx,split,file,file_line_num,offset,duration,cs_type"]
    plan = (
        ("fixture1", "eng, spa", "en", _filled(FIRST, utterances), "wav"),
        ("fixture2", "spa, eng", "es", _filled(SECOND, utterances), "mp3"),
        ("fixture3", "spa, eng", "es", THIRD, "wav"),
        ("fixture4", "spa, eng", "es", FOURTH, "wav"),
    )
    for name, header, language, lines, suffix in plan:
        people = sorted({line.speaker for line in lines})
        chat = [
            "@UTF8",
            "@Begin",
            f"@Languages:\t{header}",
            "@Participants:\t" + ", ".join(f"{p} {p.title()} Adult" for p in people),
            f"@Media:\t{name}, audio",
            "@Comment:\ta comment that is\n\tcontinued",
        ]
        pieces, now = [], 1234 + seed
        for number, line in enumerate(lines):
            code = line.language or language
            voice = speech.VOICES[people.index(line.speaker)]
            wave = speech.say(line.clean or "mm", code, line.seconds, voice=voice)
            end = now + 1000 * len(wave) // speech.RATE
            pieces.append((now / 1000, wave))
            mark = f" \x15{now}_{end}\x15" if line.timed else ""
            chat.append(f"*{line.speaker}:\t{line.raw}{mark}")
            chat.append("%aut:\tand.CONJ then.ADV")
            if line.english is not None:
                chat.append(f"%eng:\t{line.english}")
            id = f"{name}_{line.speaker}-p{number:05d}"
            kind = "n/a,{}n/a"
            if line.set:
                texts[line.set][id] = line.clean
                languages[line.set][id] = code
                split = "train" if line.set == TRAIN else "test"
                kind = f"{split},{{}}{'cs' if line.set == CS else 'mono'}"
            else:
                skips[line.reason] = skips.get(line.reason, 0) + 1
            if line.timed:
                times = f"{name},{number},{now / 1000},{(end - now) / 1000!r},"
                rows.append(f"{len(rows) - 1}," + kind.format(times))
            now = end + 180
        (root / "beta").mkdir(parents=True, exist_ok=True)
        text = "".join(f"{line}\n" for line in [*chat, "@End"])
        (root / "beta" / f"{name}.cha").write_text(text, encoding="utf-8")
        speech.write(root / "audio" / f"{name}.{suffix}", speech.recording(pieces, now / 1000 + 1))
    for keyed in (texts, languages):
        for part, file in (("train", "fixture2_"), ("valid", "fixture4_")):
            keyed[part] = {id: v for id, v in keyed[TRAIN].items() if id.startswith(file)}
    mapping = root / "miami_mapping.csv"
    mapping.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return MiamiLayout(root, texts, languages, skips, mapping=mapping)
