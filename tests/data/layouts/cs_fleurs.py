"""CS-FLEURS: two folders with different fields, several pairs, one that Whisper does not know."""

import json
from hashlib import sha256
from pathlib import Path

from tests.data.layouts import Layout, sentences, speech

FOLDERS = {"read_test": "read/test", "xtts_train": "xtts/train"}
_KINDS = {"cmn-eng": ("zh", "zh-en"), "ara-eng": ("ar", "ar-en")}


def make(root: Path, utterances: int = 4, seed: int = 0, pair: str = "cmn-eng") -> Layout:
    """Lay out sets with `utterances` of `pair` to be kept in each, and two of other pairs."""
    texts = {}
    language, kind = _KINDS[pair]
    for index, (name, place) in enumerate(FOLDERS.items()):
        folder, texts[name], entries = root / "cs-fleurs" / place, {}, []
        extra = {"fluency": "5"} if name == "read_test" else {}
        for count, text in enumerate(sentences.draw(kind, utterances, seed + index)):
            wave = speech.say(text, language, voice="m1")
            file = f"audio/{count}_{pair}.wav"
            speech.write(folder / file, wave)
            speaker = f"spk{count % 2}"
            entry = {
                "id": f"{1500 + count}",
                "file_name": file,
                "text": text,
                "duration": round(len(wave) / speech.RATE, 2),
                **extra,
                "language": pair,
                "speaker": speaker,
            }
            entries.append(entry)
            id = f"{pair.replace('-', '_')}_{speaker}-{1500 + count}"
            texts[name][id] = sentences.written(text)
        for other in ("ceb-eng", "xho-eng"):
            entries.append({**entries[0], "language": other})
        entries.append({**entries[0], "file_name": "audio/lost.wav", "id": "9000"})
        content = "".join(json.dumps(e, ensure_ascii=False) + "\n" for e in entries)
        (folder / "metadata.jsonl").write_text(content, encoding="utf-8")
    # `train` and `valid` divide xtts_train by SHA-256 of the ids; the first one is valid
    every = texts["xtts_train"]
    first = min((id.rpartition("-")[2] for id in every), key=lambda k: sha256(k.encode()).digest())
    texts["valid"] = {id: text for id, text in every.items() if id.endswith(f"-{first}")}
    texts["train"] = {id: text for id, text in every.items() if id not in texts["valid"]}
    texts["test"] = texts["read_test"]
    languages = {name: dict.fromkeys(ids, language) for name, ids in texts.items()}
    skips = {"no audio": len(FOLDERS) + 2}  # the lost waves of train and test again
    return Layout(root, texts, languages, skips, {"pair": pair})
