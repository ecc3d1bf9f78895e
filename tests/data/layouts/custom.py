"""A new user's own speech in each of the forms that are accepted. All text is invented."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.data.layouts import Layout, speech

FORMS = ("kaldi", "segments", "tsv", "csv", "files")
SPEAKERS = ("anna", "ben", "carla", "dev", "emil")
# text as its owner wrote it, as Whisper writes it, language
SENTENCES = (
    ("we meet at the library", "we meet at the library", "en"),
    ("我们  明天 去 library", "我们明天去 library", "zh"),
    ("Yes, of course!", "Yes, of course!", "en"),
    ("今天 天气 很 好", "今天天气很好", "zh"),
    ("the bus\u00a0is late", "the bus is late", "en"),
    ('she said "no", then left', 'she said "no", then left', "en"),
)


def _sentence(number: int) -> tuple[str, str, str]:
    """Sentence 0, 1, ...; from the seventh on with a number word, so that they differ."""
    raw, text, language = SENTENCES[number % len(SENTENCES)]
    turn = number // len(SENTENCES)
    extra = f" {'one two three four five six'.split()[turn - 1]}" if turn else ""
    return raw + extra, text + extra, language


def _keyed(path: Path, lines: dict[str, str]) -> None:
    path.write_text("".join(f"{k} {v}\n" for k, v in sorted(lines.items())), encoding="utf-8")


def tones(root: Path, count: int = 10) -> Path:
    """Write `clips/a0.wav`, `clips/a1.wav`, ...: something to name in tables."""
    for number in range(count):
        speech.write(root / "clips" / f"a{number}.wav", speech.tone(0.3, 200 + number))
    return root


def table(root: Path, rows: Sequence[str], name: str = "transcripts.csv", **kwargs: str) -> Path:
    """Write the rows of a table; `kwargs`: encoding, newline."""
    path = root / name
    path.write_text("".join(f"{row}\n" for row in rows), **{"encoding": "utf-8", **kwargs})
    return path


def recordings(root: Path) -> Path:
    """Kaldi directories train, valid and test: a recording each, with four segments to join."""
    for part, speaker in (("train", "anna"), ("valid", "ben"), ("test", "carla")):
        folder = root / part
        audio = speech.write(folder / "rec.wav", speech.tone(12.0, 300))
        _keyed(folder / "wav.scp", {f"{part}rec": str(audio.absolute())})
        spans = ("0.5 2.0", "2.2 4.0", "4.1 5.0", "8.0 9.5")
        ids = [f"{speaker}-{n}" for n in range(len(spans))]
        _keyed(
            folder / "segments",
            {id: f"{part}rec {span}" for id, span in zip(ids, spans, strict=True)},
        )
        _keyed(folder / "text", {id: f"word {n}" for n, id in enumerate(ids)})
        _keyed(folder / "utt2spk", dict.fromkeys(ids, speaker))
        _keyed(folder / "utt2lang", dict.fromkeys(ids, "en"))
    return root


def make(root: Path, utterances: int = 10, seed: int = 0, form: str = "tsv") -> Layout:
    """Lay out one of `FORMS` below `root`; `texts` and `languages` have one set, `all`.

    `seed` chooses who speaks what. Speakers are named in all forms but `files`.
    """
    root.mkdir(parents=True, exist_ok=True)
    texts: dict[str, str] = {}
    languages: dict[str, str] = {}
    rows: list[tuple[str, str, str, str, Path]] = []  # name, raw, language, speaker, audio
    for number in range(utterances):
        raw, text, language = _sentence(number)
        speaker = "" if form == "files" else SPEAKERS[(number * 3 + seed) % len(SPEAKERS)]
        name = f"{speaker}-{number:03d}" if form in ("kaldi", "segments") else f"clip{number:03d}"
        suffix = (".wav", ".flac", ".mp3")[number % 3]
        wave = speech.say(text, language, voice=speech.VOICES[number % 5])
        audio = speech.write(root / "clips" / f"{name}{suffix}", wave)
        rows.append((name, raw, language, speaker, audio))
        id = name if form in ("kaldi", "segments") else f"{speaker or 'unknown'}-clips_{name}"
        texts[id], languages[id] = text, language
    options = {}
    if form in ("kaldi", "segments"):
        _write_kaldi(root, rows, form == "segments")
    elif form == "tsv":
        header = "file\ttext\tlanguage\tspeaker\n"
        lines = [f"clips/{a.name}\t{raw}\t{code}\t{spk}\n" for _, raw, code, spk, a in rows]
        (root / "transcripts.tsv").write_text(header + "".join(lines), encoding="utf-8")
    elif form == "csv":
        quoted = (
            (a.name, '"' + raw.replace('"', '""') + '"', code, spk) for _, raw, code, spk, a in rows
        )
        lines = [f"clips\\{name},{raw},{code},{spk}\r\n" for name, raw, code, spk in quoted]
        # as Excel saves it
        (root / "transcripts.csv").write_bytes(b"\xef\xbb\xbf" + "".join(lines).encode())
    else:
        for _, raw, _, _, audio in rows:
            audio.with_suffix(".txt").write_text(f"{raw}\n", encoding="utf-8")
        options["language"] = "zh"
        languages = dict.fromkeys(languages, "zh")
    return Layout(root, {"all": texts}, {"all": languages}, options=options)


def _write_kaldi(root: Path, rows: list[tuple[str, str, str, str, Path]], cut: bool) -> None:
    _keyed(root / "text", {name: raw for name, raw, *_ in rows})
    _keyed(root / "utt2spk", {name: speaker for name, _, _, speaker, _ in rows})
    _keyed(root / "utt2lang", {name: code for name, _, code, *_ in rows})
    if cut:
        _keyed(root / "wav.scp", {f"rec-{a.stem}": str(a.absolute()) for *_, a in rows})
        _keyed(root / "segments", {name: f"rec-{a.stem} 0.05 0.55" for name, *_, a in rows})
    else:
        _keyed(root / "wav.scp", {name: f"clips/{a.name}" for name, *_, a in rows})
