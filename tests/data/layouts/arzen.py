"""ArzEn laid out as `ArzEn_SpeechCorpus_1.0` is, with ArzEn-ST beside it. All text is invented.

One recording a set; a fourth is in no list, and a list names a fifth that nobody transcribed. The
suffixes differ in case, `wav.scp` names files of another machine, `C10-R91` is stereo at
44.1 kHz.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.data.layouts import Layout, speech

SETS = {"train": 1, "dev": 2, "test": 3}
# raw -> what cleaning makes of it by default (diacritics and fillers out, punctuation kept)
TEXTS = (
    (
        "يعني انا كنت [HES] شغال على الـ project ده من زمان",
        "يعني انا كنت شغال على ال project ده من زمان",
    ),
    ("(LAUGHTER) بحب c++ اكتر من C# و java .", "بحب c++ اكتر من C# و java."),
    ("مِش عَارِف %اه ليه، هو %#امم مشي؟", "مش عارف ليه، هو مشي؟"),
    ("روحت ((المول)) // = مع friends بتوعي…", "روحت المول مع friends بتوعي"),
    ("[COUGH] الdeadline بكره @ الصبح $ +", "الdeadline بكره الصبح"),
    ("الجو حر [NOISE اوي [BREATH] النهارده !", "الجو حر اوي النهارده!"),
)
WORDS = "واحد اتنين تلاته اربعه خمسه سته سبعه تمنيه تسعه عشره".split()


@dataclass(frozen=True)
class ArzenLayout(Layout):
    """Also where ArzEn-ST lies."""

    translations: Path = Path()


def texts(count: int, offset: int) -> list[tuple[str, str]]:
    """`count` pairs of raw and clean text; another `offset`, other texts after the first."""
    made = list(TEXTS[:count])
    for number in range(len(made), count):
        text = f"عندي meeting رقم {WORDS[(number + offset) % 10]} بعد الشغل"
        made.append((f"[HES] {text}", text))
    return made


def key(speaker: int, number: int, start: float, end: float) -> str:
    return f"S{speaker}-C{number:02d}-R{speaker}_{round(start * 100):06d}-{round(end * 100):06d}"


def _write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def make(root: Path, utterances: int = 6, seed: int = 0) -> ArzenLayout:
    """Lay out `utterances` a set under `root/ArzEn_SpeechCorpus_1.0`."""
    home = root / "ArzEn_SpeechCorpus_1.0"
    tables: dict[str, list[str]] = {n: [] for n in ("segments", "text", "utt2spk", "wav.scp")}
    expected: dict[str, dict[str, str]] = {}
    for place, (name, number) in enumerate(SETS.items()):
        speaker, recording = 89 + number, f"C{8 + number:02d}-R{89 + number}"
        rate = 44100 if name == "dev" else speech.RATE
        pieces, now, expected[name] = [], 3.1, {}
        for raw, clean in texts(utterances, 3 * place + seed):
            wave = speech.say(clean, "ar", rate=rate, voice=speech.VOICES[place])
            end = round(now + len(wave) / rate + 0.1, 2)
            id = key(speaker, 8 + number, now, end)
            tables["segments"].append(f"{id} {recording} {now:.2f} {end:.2f}")
            tables["text"].append(f"{id} {raw}")
            tables["utt2spk"].append(f"{id} S{speaker}")
            expected[name][id] = clean
            pieces.append((now, wave))
            now = round(end + 0.25, 2)
        wave = speech.recording(pieces, now + 2, rate)
        if name == "dev":
            wave = np.stack([wave, wave], axis=1)
        suffix = "wav" if name == "test" else "WAV"
        speech.write(home / "recordings" / f"{recording}.{suffix}", wave, rate)
        far = f"/home/somebody/ArzEn/recordings/{recording}.WAV"
        tables["wav.scp"].append(f"{recording} {far}")
        spoken = {line.split(" ", 1)[0]: line.split(" ", 1)[1] for line in tables["text"]}
        source = [f"{id}\t{spoken[id]}" for id in expected[name]]
        _write(root / "ArzEn-ST/data/transcriptions" / f"{name}.src", source)
        more = ["", "C13-R94"] if name == "train" else []
        _write(home / "splits" / name, [recording, *more])
    _odd_lines(tables)
    speech.write(home / "recordings/C12-R93.WAV", speech.tone(2.0, 300))
    for name, lines in tables.items():
        _write(home / "ASR_files" / name, lines)
    return ArzenLayout(
        root,
        expected,
        {name: dict.fromkeys(ids, "ar") for name, ids in expected.items()},
        {
            "empty after cleaning": 1,
            "no text": 1,
            "no segment": 1,
            "no time between start and end": 1,
            "recording in no split": 1,
        },
        translations=root / "ArzEn-ST",
    )


def _odd_lines(tables: dict[str, list[str]]) -> None:
    """What every copy may hold that gives no utterance."""
    odd = (
        (key(90, 9, 0.2, 1.0), "C09-R90", 0.2, 1.0, "[HES] (LAUGHTER) ..."),
        (key(90, 9, 1.1, 1.2), "C09-R90", 1.1, 1.2, None),
        (key(90, 9, 1.5, 1.5), "C09-R90", 1.5, 1.5, "ايوه"),
        (key(90, 9, 2.0, 2.4), None, 2.0, 2.4, "كلام من غير وقت"),
        (key(93, 12, 0.1, 1.1), "C12-R93", 0.1, 1.1, "مش في اي split"),
    )
    for id, recording, start, end, text in odd:
        if recording:
            tables["segments"].append(f"{id} {recording} {start:.2f} {end:.2f}")
        if text:
            tables["text"].append(f"{id} {text}")
        tables["utt2spk"].append(f"{id} {id.partition('-')[0]}")
