"""AISHELL-1: words cut by blanks, a full-width letter, audio without text, text without audio."""

from pathlib import Path

from tests.data.layouts import SETS, Layout, sentences, speech

_SPEAKERS = {"train": "0002", "dev": "0724", "test": "0764"}


def make(root: Path, utterances: int = 4, seed: int = 0, sets: tuple = SETS) -> Layout:
    """Lay out `data_aishell` with `utterances` to be kept in each set."""
    top = root / "data_aishell"
    texts, lines = {}, []
    for index, name in enumerate(sets):
        first = int(_SPEAKERS[name])
        texts[name] = {}
        said = ["我 买 了 一 件 ｔ 恤", *sentences.draw("zh", utterances - 1, seed + index)]
        for count, text in enumerate(said):
            number = f"{first + count % 2:04d}"
            key = f"BAC009S{number}W{121 + count:04d}"
            words = text if count == 0 else " ".join((text[:2], text[2:4], text[4:]))
            texts[name][f"S{number}-{key}"] = text.replace(" ", "").replace("ｔ", "T")
            wave = speech.say(text, "zh", voice="m2")
            speech.write(top / "wav" / name / f"S{number}" / f"{key}.wav", wave)
            lines.append(f"{key} {words}\n")
        number = f"{first:04d}"
        odd = top / "wav" / name / f"S{number}" / f"BAC009S{number}W0900.wav"
        speech.write(odd, speech.tone(0.3, 300))  # a wave that nobody transcribed
        lines.append(f"BAC009S{number}W0901 没有 录音\n")
    lines.append("BAC009S0999W0001 这个 说话人 不在\n")  # of a speaker in none of the folders
    transcript = top / "transcript" / "aishell_transcript_v0.8.txt"
    transcript.parent.mkdir()
    transcript.write_text("".join(sorted(lines)), encoding="utf-8")
    languages = {name: dict.fromkeys(ids, "zh") for name, ids in texts.items()}
    return Layout(root, texts, languages, {"no audio": len(sets), "no transcript": len(sets)})
