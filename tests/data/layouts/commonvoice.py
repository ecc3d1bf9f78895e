"""Common Voice: a locale with the header of release 12, 13 or 17, and what is odd in all of them.

Odd: an unbalanced quotation mark, quotes around a sentence, diacritics, ideographic and no-break
blanks, a missing clip, an empty sentence, a clip listed twice, clips of two rates, durations told
wrongly, old and new words for gender, a speaker of two sets.
"""

from pathlib import Path

from tests.data.layouts import Layout, sentences, speech

HEADERS = {
    12: "client_id path sentence up_votes down_votes age gender accents locale segment",
    13: "client_id path sentence up_votes down_votes age gender accents variant locale segment",
    17: "client_id path sentence_id sentence sentence_domain up_votes down_votes age gender "
    "accents variant locale segment",
}
RELEASES = {12: "cv-corpus-12.0-2022-12-07", 13: "cv-corpus-13.0-2023-03-09", 17: "cv-corpus-17.0"}
_ODD = {
    "es": ('Esta frase es "inventada.', 'Esta frase es "inventada.'),
    "zh-CN": ("　这是 编造的。", "这是编造的。"),
    "ar": ("هٰذِهِ جُمْلَةٌ\u00a0مُخْتَرَعَة", "هٰذِهِ جُمْلَةٌ مُخْتَرَعَة"),
    "rw": ('"Ihene, y\'umuturanyi"', '"Ihene, y\'umuturanyi"'),  # CL-MASR: Ihene y umuturanyi
    "en": ('"It isn\'t real, is it?"', '"It isn\'t real, is it?"'),
}
_KINDS = {"zh-CN": "zh"}
_NEW = ("rw",)  # that Whisper lacks
SETS = ("train", "dev", "test")


def make(
    root: Path, utterances: int = 4, seed: int = 0, locale: str = "es", header: int = 17
) -> Layout:
    """Lay out one locale with `utterances` to be kept in each set; more may join it at `root`.

    `validated.tsv` has the rows of all sets and one more.
    """
    release = root / RELEASES[header]
    folder, language = release / locale, locale.partition("-")[0]
    columns = HEADERS[header].split()
    texts, durations, everything, number = {}, [], [], 0
    for index, name in enumerate(SETS):
        texts[name], rows = {}, []
        drawn = sentences.draw(_KINDS.get(locale, locale), utterances - 1, seed + index)
        for count, (text, clean) in enumerate([_ODD[locale], *((s, s) for s in drawn)]):
            number += 1
            stem = f"common_voice_{locale}_{99990000 + number}"
            client = f"{index:04x}" + f"{count % 2:02x}" * 62
            rate = 48000 if count == 1 else 32000
            wave = speech.say(text, language, rate=rate, voice="m4")
            speech.write(folder / "clips" / f"{stem}.mp3", wave, rate)
            durations.append(f"{stem}.mp3\t{round(1000 * len(wave) / rate)}\n")
            rows.append(_row(columns, client, f"{stem}.mp3", text, locale, count))
            texts[name][f"{client[:16]}-{stem}"] = clean
        rows.append(rows[0])
        client = "f" * 128
        rows.append(_row(columns, client, "common_voice_xx_1.mp3", "¿?", locale, 0))
        rows.append(_row(columns, client, f"{stem[:-1]}x.mp3", " ", locale, 1))
        _table(folder / f"{name}.tsv", columns, rows)
        everything += rows
    more = _row(columns, "e" * 128, "common_voice_es_1.mp3", "nadie", locale, 0)
    speech.write(folder / "clips" / "common_voice_es_1.mp3", speech.tone(1.0, 300, 32000), 32000)
    _table(folder / "validated.tsv", columns, [*everything, more])
    if header > 16:
        content = "clip\tduration[ms]\n" + "".join(durations)
        (folder / "clip_durations.tsv").write_text(content, encoding="utf-8")
    languages = {name: dict.fromkeys(ids, language) for name, ids in texts.items()}
    skips = {"listed twice": len(SETS), "no audio": len(SETS), "empty text": len(SETS)}
    options = {"locale": locale} | ({"language": language} if language in _NEW else {})
    return Layout(root, texts, languages, skips, options)


def _row(
    columns: list[str], client: str, clip: str, text: str, locale: str, number: int
) -> list[str]:
    new = "sentence_id" in columns
    values = {
        "client_id": client,
        "path": clip,
        "sentence_id": "ab" * 32,
        "sentence": text,
        "up_votes": "2",
        "down_votes": "0",
        "age": "twenties",
        "gender": ("female_feminine" if new else "female", "", "do_not_wish_to_say")[number % 3],
        "locale": locale,
    }
    return [values.get(column, "") for column in columns]


def _table(path: Path, columns: list[str], rows: list[list[str]]) -> None:
    lines = ("\t".join(row) + "\n" for row in [columns, *rows])
    path.write_text("".join(lines), encoding="utf-8")
