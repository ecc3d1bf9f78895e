"""FLEURS: no header, sentence ids shared by recordings, odd blanks, a recording that breaks off."""

import shutil
import tarfile
from pathlib import Path

from tests.data.layouts import Layout, sentences, speech

SETS = ("train", "dev", "test")
_LANGUAGES = {
    "cmn_hans_cn": "zh",
    "en_us": "en",
    "es_419": "es",
    "ar_eg": "ar",
    "fa_ir": "fa",
    "lg_ug": "lg",  # which Whisper lacks
}


def make(
    root: Path, utterances: int = 4, seed: int = 0, lang: str = "es_419", packed: bool = False
) -> Layout:
    """Lay out one language with `utterances` to be kept in each set; more may join it."""
    folder, language = root / "data" / lang, _LANGUAGES[lang]
    texts = {}
    for index, name in enumerate(SETS):
        waves, lines, texts[name] = folder / "audio" / name, [], {}
        *said, more = sentences.draw(language, utterances + 1, seed + index)
        said[0] += more if language == "zh" else f" {more}"  # long enough to be cut off
        for count, text in enumerate(said):
            # two recordings read one sentence, the second one with odd blanks
            sentence = 1700 + max(count, 1)
            raw = text.replace(" ", "\u00a0", 1).replace(" ", "\u2009\u200f", 1)
            wave = speech.say(text, language, voice="f4")
            if name != "train" and count == 0:
                wave = wave[: speech.RATE // 2]
            file = f"{10000000000000000000 + 1000 * index + count}.wav"
            speech.write(waves / file, wave)
            lines.append(_line(sentence, file, raw if count else text, len(wave)))
            texts[name][f"{file[:-4]}-{sentence}"] = text
        if name == "train":
            file = f"{10000000000000000900 + index}.wav"
            speech.write(waves / file, speech.tone(0.4, 300))
            long = " ".join(sentences.draw(language, 3, 99))
            lines.append(_line(1800, file, long, 6400))
        lines.append(_line(1801, "5.wav", "?", 16000))
        lines.append(lines[0])
        (folder / f"{name}.tsv").write_text("".join(lines), encoding="utf-8")
        if packed:
            with tarfile.open(folder / "audio" / f"{name}.tar.gz", "w:gz") as archive:
                archive.add(waves, name)
            shutil.rmtree(waves)
    languages = {name: dict.fromkeys(ids, language) for name, ids in texts.items()}
    skips = {"listed twice": len(SETS), "no audio": len(SETS), "truncated recording": 1}
    options = {"lang": lang} | ({"language": language} if language == "lg" else {})
    return Layout(root, texts, languages, skips, options)


def _line(sentence: int, file: str, text: str, samples: int) -> str:
    plain = "".join(c for c in text.lower() if c.isalnum() or c.isspace())
    characters = " ".join(plain.replace(" ", "|")) + " |"
    return f"{sentence}\t{file}\t{text}\t{plain}\t{characters}\t{samples}\tFEMALE\n"
