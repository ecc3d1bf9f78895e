"""ASCEND: three languages, a quoted comma, a missing wave, an empty text, a wrong length."""

import csv
from pathlib import Path

from tests.data.layouts import Layout, sentences, speech

_FILES = {"train": "train", "valid": "validation", "test": "test"}
_COLUMNS = (
    "file_name",
    "transcription",
    "duration",
    "language",
    "original_speaker_id",
    "session_id",
    "topic",
)


def make(
    root: Path,
    utterances: int = 4,
    seed: int = 0,
    sets: tuple[str, ...] = ("train", "valid", "test"),
) -> Layout:
    """Lay out `ASCEND` with `utterances` to be kept in each set."""
    top = root / "ASCEND"
    (top / "waves").mkdir(parents=True)
    texts = {}
    for index, name in enumerate(sets):
        texts[name], rows = {}, []
        speaker = 9 + index
        # the first one's length is told wrongly
        said = [("en", "well, the goat said no"), ("zh", "对 啊"), ("mixed", "嗯我 think 可以")]
        said += [("mixed", text) for text in sentences.draw("zh-en", utterances, seed + index)]
        for count, (language, text) in enumerate(said[:utterances]):
            wave = speech.say(text, "zh", voice="m3")
            stem = f"ses{speaker}_spk{speaker}_L{count + 1}_{15.32 + 10 * count:.4f}_0.7810"
            speech.write(top / "waves" / f"{stem}.wav", wave)
            seconds = len(wave) / speech.RATE + (0.5 if count == 0 else 0.0)
            row = (f"waves/{stem}.wav", text, f"{seconds:.3f}", language, speaker, 1, "persona")
            rows.append(row)
            texts[name][f"spk{speaker}-{stem}"] = sentences.written(text)
        lost = f"waves/ses1_spk{speaker}_L900_900.0000_1.0000.wav"
        rows.append((lost, "没有 wave", "1.0", "mixed", speaker, 1, "persona"))
        empty = f"waves/ses1_spk{speaker}_L901_901.0000_1.0000.wav"
        speech.write(top / empty, speech.tone(1.0, 300))
        rows.append((empty, " ", "1.0", "zh", speaker, 1, "persona"))
        with (top / f"{_FILES[name]}_metadata.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([_COLUMNS, *rows])
    (top / "speakers.csv").write_text("original_speaker_id,gender\n9,M\n", encoding="utf-8")
    languages = {name: dict.fromkeys(ids, "zh") for name, ids in texts.items()}
    skips = {"no audio": len(sets), "empty text": len(sets)}
    return Layout(root, texts, languages, skips)
