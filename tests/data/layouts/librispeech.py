"""LibriSpeech: capitals, two readers and chapters, a line without audio, audio without a line."""

from pathlib import Path

from tests.data.layouts import Layout, sentences, speech


def make(
    root: Path,
    utterances: int = 4,
    seed: int = 0,
    sets: tuple[str, ...] = ("test_clean", "dev_clean"),
) -> Layout:
    """Lay out `LibriSpeech` with `utterances` to be kept in each set."""
    top = root / "LibriSpeech"
    texts, number = {}, 0
    for index, name in enumerate(sets):
        folder, texts[name] = top / name.replace("_", "-"), {}
        said = sentences.draw("en", utterances, seed + index)
        for reader, half in (("61", said[::2]), ("9999", said[1::2])):
            number += 1
            chapter = f"{70000 + number}"
            place = folder / reader / chapter
            lines = []
            for count, text in enumerate(half):
                id = f"{reader}-{chapter}-{count:04d}"
                speech.write(place / f"{id}.flac", speech.say(text, "en", voice="f1"))
                lines.append(f"{id} {text.upper()}\n")
                texts[name][id] = text
            place.mkdir(parents=True, exist_ok=True)
            if reader == "61":
                lines.append(f"{reader}-{chapter}-0500 NOBODY RECORDED THIS\n")
                speech.write(place / f"{reader}-{chapter}-0600.flac", speech.tone(0.2, 300))
            (place / f"{reader}-{chapter}.trans.txt").write_text("".join(lines), encoding="utf-8")
    (top / "SPEAKERS.TXT").write_text(
        ";ID  |SEX| SUBSET           |MINUTES| NAME\n"
        "61    | M | test-clean       |  8.05 | Invented Reader\n"
        "9999  | F | test-clean       |  8.05 | Another Reader\n",
        encoding="utf-8",
    )
    languages = {name: dict.fromkeys(ids, "en") for name, ids in texts.items()}
    skips = {"no audio": len(sets), "no transcript": len(sets)}
    return Layout(root, texts, languages, skips)
