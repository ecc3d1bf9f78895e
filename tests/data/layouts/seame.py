"""SEAME laid out as LDC's copy is, with the official split beside it. All text is invented.

Recordings: two conversations' pairs and two interviews for training, one of each for devman and
for devsge, one in no list, one transcript without audio and one audio file without transcript. File
names are upper case, the split's lower case. `91NC92MAY` is stereo at 44.1 kHz, `UI93FAZ` is
8 kHz and long, so that its times have six digits in centiseconds, and `99NC50XFB` has its letters
in another order than the split.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.data.layouts import Layout, speech

CONVERSATION, INTERVIEW = "conversation", "interview"


@dataclass(frozen=True)
class Text:
    """A transcript and what cleaning makes of it (`kept`: with `noise=keep`)."""

    raw: str
    clean: str
    kept: str = ""
    language: str = "CS"  # the line's field
    notes: int = 0

    @property
    def tagged(self) -> str:
        return self.kept or self.clean


# Every family of marks; the first ones are what the training recordings say.
TEXTS = (
    Text(
        "我昨天去 library 借书 [lah] (ppl) 然后就回家",
        "我昨天去 library借书 lah然后就回家",
        "我昨天去 library借书 lah <noise>然后就回家",
    ),
    Text("okay (er) can we start [ah]", "okay er can we start ah", language="EN"),
    Text("不是啊<unk>他说的", "不是啊他说的", "不是啊 <unk>他说的", language="ZH"),
    Text(
        "[[ah] 我 (ppl0 想 eat #nasi-lemak# loh]",
        "ah我想 eat nasi lemak loh",
        "ah我 <noise>想 eat nasi lemak loh",
        notes=1,
    ),
    Text("ＫＴＶ\u3000去＝唱\u00a0song~ × Café", "ktv去唱 song cafe"),
    Text(
        "she's 很 busy(huh] <unk movie title>",
        "she's很 busy huh",
        "she's很 busy huh <unk>",
        notes=1,
    ),
    Text("对 对 对【lor】 {so} ——we*go·", "对对对 lor so we go"),
    Text(
        '然后\x07我 <ppo> ppb) say < unk > "ok" 3 点',
        "然后我 say ok 3点",
        "然后我 <noise> say <unk> ok 3点",
        notes=1,
    ),
    Text(
        "他 说 'cause <unl> =no= (erm) (ppl",
        "他说 cause <unl> no erm".replace(" <unl>", ""),
        "他说 cause <unk> no erm <noise>",
        notes=1,
    ),
    Text("明天 meeting [啊] (ppx) (ppl) 改期", "明天 meeting啊改期", "明天 meeting啊 <noise>改期"),
)
_FILL = (
    ("我们 week %s go 图书馆", "我们 week %s go图书馆"),
    ("the number %s bus 很慢 [lah]", "the number %s bus很慢 lah"),
    ("他说 room %s is (er) 太小", "他说 room %s is er太小"),
)
_DIGITS = "one two three four five six seven eight nine ten".split()


def filler(number: int) -> Text:
    """Text number 0, 1, ...; thirty of them are different."""
    raw, clean = _FILL[number % 3]
    word = _DIGITS[number // 3 % 10]
    return Text(raw % word, clean % word)


@dataclass(frozen=True)
class Recording:
    """One audio file; `name` as on disk, `listed` as in the split, `speaker` as ESPnet's."""

    name: str
    style: str
    listed: str
    speaker: str
    part: str  # train, devman, devsge, other
    rate: int = speech.RATE
    channels: int = 1
    first: int = 903  # milliseconds before the first line


RECORDINGS = (
    Recording("91NC91FBX_0101", CONVERSATION, "91nc91fbx_0101", "nc91f", "train"),
    Recording("91NC92MAY_0101", CONVERSATION, "91nc92may_0101", "nc92m", "train", 44100, 2),
    Recording("92NC91FBP_0101", CONVERSATION, "92nc91fbp_0101", "nc91f", "train"),
    Recording("99NC50XFB_0101", CONVERSATION, "99nc50fbx_0101", "nc50f", "train"),
    Recording("NI97MBP_0101", INTERVIEW, "ni97mbp_0101", "ni97m", "train"),
    Recording("UI96FAZ_0105", INTERVIEW, "ui96faz_0105", "ui96f", "train"),
    Recording("93NC93FBX_0101", CONVERSATION, "93nc93fbx_0101", "nc93f", "devman"),
    Recording("UI93FAZ_0102", INTERVIEW, "ui93faz_0102", "ui93f", "devman", 8000, 1, 997000),
    Recording("93NC94MBY_0101", CONVERSATION, "93nc94mby_0101", "nc94m", "devsge"),
    Recording("NI94MBQ_0201", INTERVIEW, "ni94mbq_0201", "ni94m", "devsge"),
    Recording("95NC95FBX_0101", CONVERSATION, "95nc95fbx_0101", "nc95f", "other"),
)
VOICES = {r.speaker: speech.VOICES[i % len(speech.VOICES)] for i, r in enumerate(RECORDINGS)}


@dataclass(frozen=True)
class SeameLayout(Layout):
    """Also `kept`: the texts with `noise=keep`, and what the ledger must note."""

    kept: dict[str, dict[str, str]] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)


@dataclass
class _Written:
    """A line as it stands in a transcript."""

    start: int
    end: int
    text: Text

    def fields(self, name: str) -> str:
        return f"{name}\t{self.start}\t{self.end}\t{self.text.language}\t{self.text.raw}\n"


# recording, speaker, start and end in centiseconds, text
Official = tuple[str, str, int, int, Text]


def cs(milliseconds: int) -> int:
    return int(milliseconds / 10 + 0.5)


def _speak(recording: Recording, texts: Sequence[Text], audio: Path) -> list[_Written]:
    """Write one audio file that says the texts, and return where each one is."""
    lines, pieces, now = [], [], recording.first
    for text in texts:
        wave = speech.say(text.clean, "zh", rate=recording.rate, voice=VOICES[recording.speaker])
        length = 1000 * len(wave) // recording.rate
        lines.append(_Written(now, now + length, text))
        pieces.append((now / 1000, wave))
        now += length + 217
    wave = speech.recording(pieces, now / 1000 + 0.2, recording.rate)
    if recording.channels == 2:
        wave = speech.stereo(wave, wave)
    speech.write(audio / f"{recording.name}.flac", wave, recording.rate)
    return lines


def _texts(utterances: int) -> dict[str, list[Text]]:
    """Recording -> its texts, `utterances` a part (train with valid, devman, devsge)."""
    result: dict[str, list[Text]] = {r.name: [] for r in RECORDINGS}
    fill = 0
    for part in ("train", "devman", "devsge"):
        names = [r.name for r in RECORDINGS if r.part == part]
        texts = list(TEXTS) if part == "train" else [TEXTS[0], TEXTS[2], TEXTS[5]]
        for number in range(utterances):
            if number < len(texts):
                text = texts[number]
            else:
                text, fill = filler(fill), fill + 1
            result[names[number % len(names)]].append(text)
    result["95NC95FBX_0101"] = [filler(29)]
    return result


def _keyed(path: Path, lines: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{k} {v}\n" for k, v in sorted(lines.items())), encoding="utf-8")


def _spaced(text: str) -> str:
    """A text as the split repository writes it."""
    for tag in ("<noise>", "<unk>"):
        text = text.replace(tag, " <v-noise> " if tag == "<noise>" else " ")
    return " ".join("".join(f" {c} " if c > "\u2e7f" else c for c in text).split())


def write_split(
    folder: Path, listed: Mapping[str, Sequence[Official]], recordings: Sequence[Recording]
) -> None:
    """Write the split repository; `segments` is 0.01 s beside the id in every third line."""
    for name, place in (("devman", "dev_man"), ("devsge", "dev_sge")):
        tables: dict[str, dict[str, str]] = {n: {} for n in ("segments", "text", "utt2spk")}
        for number, (recording, speaker, start, end, text) in enumerate(listed[name]):
            key = f"{speaker}-{recording}-{start:05d}-{end:05d}"
            drift = 1 if number % 3 == 0 else 0
            span = f"{start / 100:.2f} {(end + drift) / 100:.2f}"
            tables["segments"][key] = f"{recording} {span}"
            tables["text"][key] = _spaced(text.tagged)
            tables["utt2spk"][key] = speaker
        spk2utt: dict[str, list[str]] = {}
        for key, speaker in sorted(tables["utt2spk"].items()):
            spk2utt.setdefault(speaker, []).append(key)
        tables["spk2utt"] = {speaker: " ".join(keys) for speaker, keys in spk2utt.items()}
        names = {recording for recording, *_ in listed[name]}
        tables["wav.scp"] = {r: f"./seame/phasei/original/interview/{r}/{r}.wav" for r in names}
        for table, lines in tables.items():
            _keyed(folder / place / table, lines)
    (folder / "train").mkdir()
    paths = [
        f"./seame/phasei/original/{r.style}/{r.listed}/{r.listed}.wav\n"
        for r in recordings
        if r.part == "train"
    ]
    paths.insert(len(paths) // 2, "\n")
    (folder / "train" / "wav_file.txt").write_text("".join(paths), encoding="utf-8")
    (folder / "README.md").write_text("# The official split (invented)\n", encoding="utf-8")


def _write_phases(folder: Path, name: str, lines: Sequence[_Written], extra: str) -> None:
    two = "".join(line.fields(name) for line in lines)
    one = "".join(f"{name}\t{line.start}\t{line.end}\t{line.text.raw}\n" for line in lines)
    for phase, content in (("phaseI", f"{one}{name}\t(no transcript)\n"), ("phaseII", two + extra)):
        path = folder / "transcript" / phase / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode())


def make(root: Path, utterances: int = 10, seed: int = 0) -> SeameLayout:
    """Lay the corpus out below `root`: `LDC2015S04` and `SEAME-dev-set`.

    `utterances`: in devman, in devsge, and in train and valid together. `seed` moves the
    official times beside LDC's, by at most 3 cs.
    """
    rng = random.Random(seed)
    data = root / "LDC2015S04" / "data"
    (root / "LDC2015S04" / "docs").mkdir(parents=True)
    (root / "LDC2015S04" / "index.html").write_text("<html></html>\n")
    texts = _texts(utterances)
    made: dict[str, dict[str, Text]] = {part: {} for part in ("train", "devman", "devsge")}
    listed: dict[str, list[Official]] = {"devman": [], "devsge": []}
    used = [recording for recording in RECORDINGS if texts[recording.name]]
    for recording in used:
        name, folder = recording.name, data / recording.style
        lines = _speak(recording, texts[name], folder / "audio")
        extra = ""
        if recording.part == "train":
            extra = _bad_lines(name, lines)
        elif recording.part in listed:
            for number, line in enumerate(lines):
                drift = 3 if number == 0 else rng.randint(-2, 3)
                times = cs(line.start) + drift, cs(line.end) - drift
                entry = (recording.listed, recording.speaker, *times, line.text)
                listed[recording.part].append(entry)
            # a line of a test recording that the official list leaves out
            extra = _Written(100, 850, filler(28)).fields(name)
        _write_phases(folder, name, lines, extra)
        for line in lines if recording.part in made else ():
            times = f"{cs(line.start):06d}-{cs(line.end):06d}"
            made[recording.part][f"{recording.speaker}-{recording.listed}-{times}"] = line.text
    _write_phases(data / INTERVIEW, "NI90FBP_0101", [_Written(10, 2000, filler(0))], "")
    silence = speech.tone(0.4, 200)
    speech.write(data / CONVERSATION / "audio" / "96NC96MAX_0101.flac", silence)
    # an official utterance that no line is near enough to
    listed["devsge"].append(("93nc94mby_0101", "nc94m", 10, 79, filler(27)))
    write_split(root / "SEAME-dev-set", listed, used)
    return _layout(root, made)


def _bad_lines(name: str, lines: Sequence[_Written]) -> str:
    """Lines that no utterance is made of, at the end of the first training transcript."""
    if name != RECORDINGS[0].name:
        return ""
    last = lines[-1].end
    empty = _Written(last + 10, last + 200, Text("(ppl) <unk> ...", ""))
    short = _Written(last + 20, last + 30, filler(1))
    double = _Written(lines[0].start, lines[0].end, filler(2))
    missing = f"{name}\t{last + 40}\t{last + 90}\tCS\n"
    return empty.fields(name) + short.fields(name) + missing + "\n" + double.fields(name)


def _layout(root: Path, made: dict[str, dict[str, Text]]) -> SeameLayout:
    train = sorted(made["train"])
    random.Random(531).shuffle(train)
    valid = train[-max(1, len(train) // 20) :]
    sets = {
        "train": {k: made["train"][k] for k in train if k not in valid},
        "valid": {k: made["train"][k] for k in valid},
        "devman": made["devman"],
        "devsge": made["devsge"],
    }
    texts = [text for some in sets.values() for text in some.values()]
    reordered = sum(1 for key in train if key.startswith("nc50f-")) > 0
    notes = {
        "malformed bracket repaired": sum(text.notes for text in texts),
        "recording name with letters in another order": 2 * reordered,  # audio and transcript
    }
    return SeameLayout(
        root=root / "LDC2015S04",
        texts={name: {k: t.clean for k, t in s.items()} for name, s in sets.items()},
        languages={name: dict.fromkeys(s, "zh") for name, s in sets.items()},
        skips={
            "empty after cleaning": 1,
            "missing field": 1,
            "no audio": 1,
            "no line within 3 cs of an official utterance": 1,
            "no transcript": 1,
            "recording not in the split": 1,
            "same times as another line": 1,
            "shorter than 2 cs": 1,
        },
        options={"split_dir": str(root / "SEAME-dev-set")},
        kept={name: {k: t.tagged for k, t in s.items()} for name, s in sets.items()},
        notes={what: count for what, count in notes.items() if count},
    )


def raw_lines(n: int, recording: str) -> Iterator[str]:
    """Yield `n` lines of phase II of one recording, with marks of every family."""
    texts = [*TEXTS, *(filler(i) for i in range(30))]
    for i in range(n):
        start = 1000 + 4000 * i
        yield _Written(start, start + 3500 + i % 7, texts[i % len(texts)]).fields(recording)


def make_lines(root: Path, n: int = 100_000) -> SeameLayout:
    """Lay out `n` lines without sound (audio files are empty): for time and memory.

    About one line in ten is in a test set.
    """
    data = root / "LDC2015S04" / "data"
    each = -(-n // len(RECORDINGS))
    listed: dict[str, list[Official]] = {"devman": [], "devsge": []}
    left = n
    for recording in RECORDINGS:
        folder, name = data / recording.style, recording.name
        for place in (folder / "audio", folder / "transcript" / "phaseII"):
            place.mkdir(parents=True, exist_ok=True)
        (folder / "audio" / f"{name}.flac").touch()
        lines = list(raw_lines(min(each, left), name))
        left -= len(lines)
        (folder / "transcript" / "phaseII" / f"{name}.txt").write_bytes("".join(lines).encode())
        if recording.part in listed:
            for line in lines:
                _, start, end, *_ = line.split("\t")
                times = cs(int(start)) + 1, cs(int(end)) - 2
                listed[recording.part].append(
                    (recording.listed, recording.speaker, *times, filler(0))
                )
    write_split(root / "SEAME-dev-set", listed, RECORDINGS)
    options = {"split_dir": str(root / "SEAME-dev-set")}
    return SeameLayout(root=root / "LDC2015S04", texts={}, languages={}, options=options)
