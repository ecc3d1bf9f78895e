"""MGB-2: Buckwalter text and a Kaldi-like evaluation set, XML with words to train on."""

from pathlib import Path

from espnet_blora.data.corpora.mgb2 import BUCKWALTER
from tests.data.layouts import SETS, Layout, sentences, speech

_FROM_ARABIC = str.maketrans({arabic: latin for latin, arabic in BUCKWALTER.items()})


def make(root: Path, utterances: int = 4, seed: int = 0, sets: tuple = SETS) -> Layout:
    """Lay out `mgb2` with `utterances` to be kept in each set, two recordings a set."""
    texts = {}
    for index, name in enumerate(sets):
        folder, texts[name] = root / "mgb2" / name, {}
        said = sentences.draw("ar", utterances, seed + index)
        write = _train if name == "train" else _evaluation
        write(folder, said, f"0A{index}B", texts[name])
    languages = {name: dict.fromkeys(ids, "ar") for name, ids in texts.items()}
    trained, evaluated = "train" in sets, len(set(sets) - {"train"})
    skips = {"empty text": trained + evaluated, "no time": trained, "not in segments": evaluated}
    skips["WMER above 80"] = 2 * trained
    return Layout(root, texts, languages, {reason: n for reason, n in skips.items() if n})


def _recordings(folder: Path, said: list[str], name: str):
    """Write two recordings and yield each one's name and segments (start, end, text)."""
    for number, part in enumerate((said[::2], said[1::2])):
        pieces, segments, start = [], [], 12.34
        for text in part:
            wave = speech.say(text, "ar", voice="m5")
            pieces.append((start, wave))
            end = round(start + len(wave) / speech.RATE + 0.1, 2)
            segments.append((start, end, text))
            start = round(end + 0.5, 2)
        recording = f"{name}-C{number}D3"
        wave = speech.recording(pieces, start + 5.0)
        speech.write(folder / "wav" / f"{recording}.wav", wave)
        yield recording, segments


def _evaluation(folder: Path, said: list[str], name: str, texts: dict[str, str]) -> None:
    scp, spans, lines = [], [], []
    for recording, segments in _recordings(folder, said, name):
        scp.append(f"{recording} wav/{recording}.wav\n")
        for start, end, text in segments:
            rest = f"seg-{round(100 * start):07d}:{round(100 * end):07d}"
            key = f"{recording}_spk-0001_{rest}"
            spans.append(f"{key} {recording} {start} {end}\n")
            lines.append(f"{key} {text.translate(_FROM_ARABIC)}\n")
            speaker = f"{recording.replace('-', '_')}_spk_0001"
            texts[f"{speaker}-{rest.replace(':', '_')}"] = text
    lines.append(f"{recording}_spk-0009_seg-1:2 mn gyr wqt\n")
    empty = f"{recording}_spk-0008_seg-3:4"
    spans.append(f"{empty} {recording} 0.5 1.5\n")
    lines.append(f"{empty}\n")
    (folder / "wav.scp").write_text("".join(scp), encoding="utf-8")
    for kind, content in (("segments", spans), ("text", lines)):
        (folder / f"{kind}.non_overlap_speech").write_text("".join(content), encoding="utf-8")


def _train(folder: Path, said: list[str], name: str, texts: dict[str, str]) -> None:
    for recording, segments in _recordings(folder, said, name):
        stem, lines = recording.replace("-", "_"), []
        for number, (start, end, text) in enumerate(segments):
            lines.append(_segment(stem, number, start, end, text, 12.5 if number else 80.0))
            speaker = f"{stem}_speaker4"
            texts[f"{speaker}-{round(100 * start):07d}-{round(100 * end):07d}"] = text
        lines.append(_segment(stem, 90, 1.0, 2.0, "كلام غير موثوق", 80.1))
        if "C0" in recording:
            lines.append(_segment(stem, 91, 3.0, 4.0, "", 0.0))
            lines.append(_segment(stem, 92, 5.0, 5.0, "بلا وقت", 0.0))
        body = "".join(lines)
        path = folder / "xml" / "utf8" / f"{recording}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            '<?xml version="1.0" encoding="UTF-8"?>\n<transcript>\n<head><recording/></head>\n'
            f'<body><segments annotation_id="transcript_align">\n{body}</segments></body>\n'
            "</transcript>\n",
            encoding="utf-8",
        )


def _segment(stem: str, number: int, start: float, end: float, text: str, wmer: float) -> str:
    words = "".join(f'<element type="word">{word}</element>' for word in text.split())
    return (
        f'<segment id="{stem}_utt_{number}_align" starttime="{start}" endtime="{end}" '
        f'who="{stem}_speaker4_align" WMER="{wmer}" AWD="0.3">{words}</segment>\n'
    )
