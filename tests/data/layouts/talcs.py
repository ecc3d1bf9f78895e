"""TALCS: English in capitals, full-width letters, a line without wave, a line without text."""

from pathlib import Path

from tests.data.layouts import SETS, Layout, sentences, speech


def make(root: Path, utterances: int = 4, seed: int = 0, sets: tuple = SETS) -> Layout:
    """Lay out `TALCS_corpus` with `utterances` to be kept in each set."""
    top = root / "TALCS_corpus"
    texts = {}
    for index, name in enumerate(sets):
        folder, texts[name], lines = top / f"{name}_set", {}, []
        said = ["我们看 ＴＨＩＳ ONE 对吧", *sentences.draw("zh-en", utterances - 1, seed + index)]
        for count, text in enumerate(said):
            stem = f"210_99{index}99_210_9999_1_15330000{count:02d}_4000000_555"
            wave = speech.say(text.lower(), "zh", voice="f3")
            speech.write(folder / "wav" / f"{stem}.wav", wave)
            lines.append(f"{stem} {text.upper()}\n")
            expected = "我们看 this one对吧" if count == 0 else sentences.written(text)
            texts[name][f"{stem}-0"] = expected
        lines.append(f"210_90000_210_{index}_1_1_1_1 没有 WAVE\n")
        speech.write(folder / "wav" / f"210_90001_210_{index}_1_1_1_1.wav", speech.tone(0.3, 300))
        lines.append(f"210_90001_210_{index}_1_1_1_1\n")
        (folder / "label.txt").write_text("".join(lines), encoding="utf-8")
    languages = {name: dict.fromkeys(ids, "zh") for name, ids in texts.items()}
    return Layout(root, texts, languages, {"no audio": len(sets), "empty text": len(sets)})
