"""Fisher Spanish laid out as LDC2010S01 and LDC2010T04 are, with the mapping files beside them.

All names, calls and words are invented. Five calls: two of train, one each of dev, dev2 and test.
The channels of a call differ in voice, or, with `sound="tone"`, in pitch: 440 Hz is side A (0 in
the transcripts), 1000 Hz side B.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.data.layouts import Layout, speech

RATE = 8000
TONES = (440.0, 1000.0)
HEADER = (
    "file;unicode\tchannel;int\tstart;float\tend;float\tspeaker;unicode\tspeakerType;unicode\t"
    "speakerDialect;unicode\ttranscript;unicode\tsection;int\tturn;int\tsegment;int\t"
    "sectionType;unicode\tsuType;unicode"
)
COMMENTS = (";;MM sectionTypes\t[u'None', None]", ";;MM sectionBoundaries\t[0.0, 9999999.0]")
CALLS = {
    "20990101_000000_901_fsp": "train",
    "20990101_010203_902_fsp": "train",
    "20990102_000000_903_fsp": "dev",
    "20990103_000000_904_fsp": "dev2",
    "20990104_000000_905_fsp": "test",
}
# call, channel -> PIN; the sides that are not here have none
PINS = {("901", 0): "10001", ("901", 1): "10002", ("902", 0): "10001", ("903", 1): "10777"}
EN = '<foreign lang="English">'


class Said(NamedTuple):
    """An utterance: its segments as transcribed, what they come to, whether it switches.

    `half`: exactly half of the words are foreign; `skip`: why it is left out.
    """

    raw: tuple[str, ...]
    clean: str
    switched: bool
    channel: int = 0
    half: bool = False
    skip: str = ""


SWITCHED = (
    Said(
        (f"bueno, ayer fui al {EN} mall </foreign> con mi prima.",),
        "bueno, ayer fui al mall con mi prima.",
        True,
    ),
    Said(
        (f"sí, {EN} okay", "pero no </foreign> (( mañana ))"),  # open across two lines
        "sí, okay pero no mañana",
        True,
        1,
    ),
    Said(('<foreign lang+"English"> so </foreign> ¿vienes?',), "so ¿vienes?", True, half=True),
    Said(('un <foreign lan="English"> party /foreign> grande',), "un party grande", True, 1),
    Said(
        ('<laugh> la <foreign lang="Italian"> nonna </laugh> cara </foreign>',),
        "la nonna cara",
        True,
    ),
    Said((f"<lname>Pérez</lname> dijo {EN} (( )) </foreign> ¡ah!",), "Pérez dijo ¡ah!", True, 1),
)
MONO = (
    Said(("<laugh> ajá </laugh> (( no sé ))",), "ajá no sé", False),
    Said(
        ("el ñandú y la cigüeña {ruido} [aparte],", "+claro+ *pues* <breath/>"),
        "el ñandú y la cigüeña, claro pues",
        False,
        1,
    ),
    Said(('<foreing lang="English"> cool </foreing> dijo',), "cool dijo", False),
    Said((f"{EN} (())</foreign> nada",), "nada", False, 1),
    Said(("langengullís> nice</foreign> dijo él",), "nice dijo él", False),
)
UNUSABLE = (
    Said(("(( ))",), "", False, skip="empty after cleaning"),
    Said(("<laugh/> <cough/>",), "", False, 1, skip="empty after cleaning"),
    Said(("cero",), "cero", False, skip="no time between start and end"),
)
PLACES = "Cuba Lima Quito Bogotá Caracas Managua Panamá Tegucigalpa".split()


@dataclass(frozen=True)
class FisherLayout(Layout):
    """Also each utterance's place in its recording, and the published table of the split."""

    times: dict[str, tuple[str, int, float, float]] = field(default_factory=dict)
    mapping: Path = Path()  # the mapping files' folder
    published: Path = Path()  # fisher_mapping.csv, with the drawn split


def _filler(switched: bool, number: int) -> Said:
    place = PLACES[number % len(PLACES)]
    if switched:
        raw = f"el número {number % 10} va en {EN} bus </foreign> a {place}."
        return Said((raw,), f"el número {number % 10} va en bus a {place}.", True, number % 2)
    text = f"mi tía vive en {place}, casa {number % 10}."
    return Said((text,), text, False, number % 2)


def _said(utterances: int, start: int, *, odd: bool) -> list[Said]:
    """`utterances` code-switched and as many other ones, alternately."""
    made = []
    for number in range(utterances):
        for known, switched in ((SWITCHED, True), (MONO, False)):
            if number < len(known) and odd:
                made.append(known[number])
            else:
                made.append(_filler(switched, start + number))
        if odd and number < len(UNUSABLE):
            made.append(UNUSABLE[number])
    return made


@dataclass
class _Call:
    """A call while it is being written."""

    stem: str
    sound: str
    lines: list[str] = field(default_factory=list)
    count: int = 0  # data lines
    now: float = 0.5
    pieces: tuple[list, list] = field(default_factory=lambda: ([], []))

    def line(self, channel: int, start: float, end: float, transcript: str) -> int:
        """Write a data line and return its number."""
        self.count += 1
        fields = [f"{self.stem}.sph", str(channel), f"{start:.4f}", f"{end:.4f}", "Ana María"]
        fields += ["female", "native", transcript, "0", str(self.count), "-1", "", ""]
        text = "\t".join(fields)
        self.lines.append(text.rstrip("\t") if self.count % 2 else text)
        return self.count

    def comment(self) -> None:
        """Lines that do not count, and one that nobody's mapping names."""
        self.lines.append(";;MM note\tin the middle")
        self.count += 1
        self.lines.append("")

    def say(self, said: Said) -> tuple[list[int], float, float]:
        """Speak an utterance; the other side talks between its segments."""
        numbers, first = [], self.now
        words = said.clean.split()
        for part, raw in enumerate(said.raw):
            cut = len(words) * part // len(said.raw), len(words) * (part + 1) // len(said.raw)
            wave = self._wave(" ".join(words[slice(*cut)]) or "mm", said.channel)
            length = 0.0 if said.skip.startswith("no time") else len(wave) / RATE
            start, end = round(self.now, 4), round(self.now + length, 4)
            self.pieces[said.channel].append((start, wave))
            numbers.append(self.line(said.channel, start, end, raw))
            self.now = end + 0.3
            if part + 1 < len(said.raw):
                other = 1 - said.channel
                self.pieces[other].append((end, self._wave("ajá", other)[: RATE // 5]))
                self.line(other, end, end + 0.2, "ajá")
        return numbers, round(first, 4), end

    def _wave(self, text: str, channel: int):
        if self.sound == "tone":
            return speech.tone(0.6, TONES[channel], RATE)
        voice = speech.VOICES[2 * (int(self.stem.split("_")[2]) % 4) + channel]
        return speech.say(text, "es", rate=RATE, voice=voice)

    def write(self, tdf: Path, sph: Path, end: str) -> None:
        tdf.parent.mkdir(parents=True, exist_ok=True)
        text = end.join([HEADER, *COMMENTS, *self.lines, ""])
        tdf.write_bytes(text.encode("utf-8"))
        sides = [speech.recording(pieces, self.now + 1, RATE) for pieces in self.pieces]
        speech.write(sph, speech.stereo(*sides), RATE)


def speaker(call: str, channel: int) -> str:
    return PINS.get((call.split("_")[2], channel), f"{call}_{'AB'[channel]}")


def make(
    root: Path, utterances: int = 10, seed: int = 0, *, sound: str = "speech", discs: bool = False
) -> FisherLayout:
    """Lay out `utterances` code-switched and as many other utterances of train, half of it of
    the evaluation sets; with `discs` LDC2010S01's two discs are not merged."""
    everything: dict[str, list[tuple[str, Said]]] = {
        p: [] for p in ("train", "dev", "dev2", "test")
    }
    mapping: dict[str, list[str]] = {part: [] for part in everything}
    times = {}
    half = max(1, utterances // 2)
    shares = {"dev": (half + 2) // 3, "dev2": (half + 1) // 3, "test": half // 3}
    for number, (stem, part) in enumerate(CALLS.items()):
        call = _Call(stem, sound)
        if part != "train":
            plan = _said(shares[part], number * 20 + seed, odd=part == "dev")
        else:
            first = (utterances + 1) // 2
            count = first if number == 0 else utterances - first
            plan = _said(count, number * 20 + seed, odd=number == 0)
        for said in plan:
            if call.count == 3:
                call.comment()
            numbers, start, end = call.say(said)
            mapping[part].append(f"{stem} {'_'.join(map(str, numbers))}")
            id = f"{speaker(stem, said.channel)}-fisher_{part}-utt{len(mapping[part]):06d}"
            everything[part].append((id, said))
            times[id] = (stem, said.channel, start, end)
        disc = f"DISC{1 + number % 2}/" if discs else ""
        call.write(
            root / "LDC2010T04/fisher_spa_tr/data/transcripts" / f"{stem}.tdf",
            root / f"LDC2010S01/{disc}data/speech" / f"{stem}.sph",
            "\r\n" if number == 1 else "\n",
        )
    folder = root / "fisher-callhome-corpus" / "mapping"
    folder.mkdir(parents=True, exist_ok=True)
    for part, rows in mapping.items():
        (folder / f"fisher_{part}").write_text("".join(f"{row}\n" for row in rows), "utf-8")
    _write_pins(root / "LDC2010T04/fisher_spa_tr/doc/fsp_call.tbl")
    sets, validation = _sets(everything)
    published = _write_published(root / "fisher_mapping.csv", mapping, everything, validation)
    texts = {
        name: {id: said.clean for id, said in chosen if not said.skip}
        for name, chosen in sets.items()
    }
    skipped = [said.skip for part in everything.values() for _, said in part if said.skip]
    return FisherLayout(
        root,
        texts,
        {name: dict.fromkeys(ids, "es") for name, ids in texts.items()},
        {reason: skipped.count(reason) for reason in sorted(set(skipped))},
        times=times,
        mapping=folder,
        published=published,
    )


def _sets(everything):
    """Sets by name, and the ids drawn for validation."""
    evaluation = everything["dev"] + everything["dev2"] + everything["test"]
    train = [pair for pair in everything["train"] if pair[1].switched]
    mono = [pair for pair in everything["train"] if not pair[1].switched]
    random.seed(1)
    for _, said in evaluation:
        if said.half and said.switched:
            random.random()
    drawn = set(random.sample(list(range(len(train))), k=int(0.1 * len(train))))
    for _, said in train:
        if said.half:
            random.random()
    sample = set(random.sample(list(range(len(mono))), k=min(len(mono), len(train) - len(drawn))))
    sets = dict(everything)
    sets["cs_valid"] = [pair for i, pair in enumerate(train) if i in drawn]
    sets["cs_train"] = [pair for i, pair in enumerate(train) if i not in drawn]
    sets["mono_train"] = mono
    sets["mono_train_lid"] = [pair for i, pair in enumerate(mono) if i in sample]
    sets["cs_eval"] = [pair for pair in evaluation if pair[1].switched]
    sets["mono_eval"] = [pair for pair in evaluation if not pair[1].switched]
    return sets, {id for id, _ in sets["cs_valid"]}


def _write_pins(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["call_id,date,pin_a,sex_a,dialect_a,phone_a,x,y,pin_b,sex_b"]
    for call in ("901", "902", "903"):
        pins = PINS.get((call, 0), ""), PINS.get((call, 1), "")
        lines.append(f"{call},20990101,{pins[0]},f,cuban,1,,,{pins[1]},m")
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _write_published(path: Path, mapping, everything, validation) -> Path:
    lines = [",file,file_line_num,split,audio_file,audio_file_line_num,cs_type"]
    for part in ("dev", "dev2", "test", "train"):
        for index, row in enumerate(mapping[part]):
            id, said = everything[part][index]
            split = "test" if part != "train" else "dev" if id in validation else "train"
            kind = "cs" if said.switched else "mono"
            call, numbers = row.split()
            lines.append(f"{len(lines) - 1},fisher_{part},{index},{split},{call},{numbers},{kind}")
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path
