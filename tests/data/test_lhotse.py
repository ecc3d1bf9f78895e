"""lhotse's manifests, as lhotse 1.33 writes them, become data directories, and the other way."""

import gzip
import json

import pytest

from espnet_blora.bin import interchange
from espnet_blora.data import kaldi
from espnet_blora.data.corpora import custom
from espnet_blora.data.records import Ledger
from espnet_blora.utils.keyed import read_keyed
from tests.data.layouts import speech


def recording(path, **change):
    return {
        "id": path.stem,
        "sources": [{"type": "file", "channels": [0], "source": str(path)}],
        "sampling_rate": 16000,
        "num_samples": 96000,
        "duration": 6.0,
        "channel_ids": [0],
    } | change


def supervision(number, name, **change):
    return {
        "id": f"s{number}",
        "recording_id": name,
        "start": number,
        "duration": 0.75,
        "channel": 0,
        "text": f"text {number}",
        "language": "English",
        "speaker": "ann",
    } | change


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with (gzip.open if path.suffix == ".gz" else open)(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def talk(tmp_path):
    return speech.write(tmp_path / "audio" / "talk.wav", speech.tone(6.0, 300))


@pytest.fixture
def manifests(talk, tmp_path):
    """A folder of recordings and supervisions, and a file of cuts that says the same."""
    segments = [supervision(n, "talk") for n in range(3)]
    segments += [supervision(3, "talk", language="zh", speaker="bo", text=" 你好\n 吗 ")]
    write(tmp_path / "m/x_recordings_train.jsonl.gz", [recording(talk)])
    write(tmp_path / "m/x_supervisions_train.jsonl.gz", segments)
    cuts = [
        {"id": s["id"], "start": s["start"], "duration": 0.75, "channel": 0, "type": "MonoCut",
         "supervisions": [s | {"start": 0}], "recording": recording(talk)} for s in segments
    ]  # fmt: skip
    write(tmp_path / "c/cuts.jsonl", cuts)
    return tmp_path / "m", tmp_path / "c/cuts.jsonl", tmp_path / "c"


def files(folder):
    names = ("wav.scp", "segments", "text", "utt2spk", "utt2lang")
    return {name: read_keyed(folder / name) for name in names}


def test_manifests_and_cuts_say_the_same(manifests, talk, tmp_path):
    made = []
    for number, source in enumerate(manifests):
        folder = tmp_path / f"data{number}"
        assert interchange.main(["from_lhotse", str(source), str(folder)]) == 0
        made.append(files(folder))
        assert kaldi.validate(folder).utterances == 4
    assert made[0] == made[1] == made[2]
    assert made[0]["segments"]["ann-s2"] == "talk 2.0000 2.7500"
    assert made[0]["text"]["bo-s3"] == "你好 吗"
    assert made[0]["utt2lang"] == dict.fromkeys(["ann-s0", "ann-s1", "ann-s2"], "en") | {
        "bo-s3": "zh"
    }
    assert made[0]["wav.scp"] == {"talk": str(talk)}
    read = custom.read(tmp_path / "data0", ["train", "test"], Ledger(), {"valid": "0", "test": "1"})
    assert sum(map(len, read.values())) == 4


def test_there_and_back(manifests, tmp_path):
    interchange.main(["from_lhotse", str(manifests[0]), str(tmp_path / "data")])
    assert interchange.main(["to_lhotse", str(tmp_path / "data"), str(tmp_path / "out")]) == 0
    assert interchange.main(["from_lhotse", str(tmp_path / "out"), str(tmp_path / "again")]) == 0
    assert files(tmp_path / "again") == files(tmp_path / "data")
    with gzip.open(tmp_path / "out/recordings.jsonl.gz", "rt") as file:
        (row,) = map(json.loads, file)
    assert row["num_samples"] == 96000 and row["duration"] == 6.0


def test_what_is_left_out_is_named(talk, tmp_path):
    stereo = speech.write(tmp_path / "stereo.wav", speech.tone(1.0, 300))
    write(
        tmp_path / "m/recordings.jsonl",
        [
            recording(talk),
            recording(stereo, channel_ids=[0, 1]),
            recording(talk, id="fast", transforms=[{"name": "Speed"}]),
            recording(talk, id="url", sources=[{"type": "url", "source": "x"}]),
        ],
    )
    names = ("talk", "stereo", "fast", "url")
    rows = [supervision(n, name) for n, name in enumerate(names)]
    write(tmp_path / "m/supervisions.jsonl", [*rows, supervision(9, "talk", text=None)])
    assert interchange.main(["from_lhotse", str(tmp_path / "m"), str(tmp_path / "data")]) == 0
    listed = (tmp_path / "data/left_out.tsv").read_text().splitlines()
    assert sorted(line.split("\t")[1] for line in listed) == ["s1", "s2", "s3", "s9"]
    assert list(read_keyed(tmp_path / "data/text")) == ["ann-s0"]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([supervision(0, "gone")], "supervisions.jsonl:1: recording gone is in no manifest"),
        ([supervision(0, "talk", language=None)], ":1: language '' of s0 is none of Whisper's"),
        ([supervision(0, "talk", language="Klingon")], ":1: language 'Klingon' of s0"),
        ([supervision(0, "talk")] * 2, ":2: ann-s0 occurs twice"),
        ([{"id": "s0"}], "not a manifest of lhotse's: no key 'recording_id'"),
        ([], "no utterance can be used"),
    ],
)
def test_what_is_refused(talk, tmp_path, capsys, rows, says):
    write(tmp_path / "m/recordings.jsonl", [recording(talk)])
    write(tmp_path / "m/supervisions.jsonl", rows)
    assert interchange.main(["from_lhotse", str(tmp_path / "m"), str(tmp_path / "data")]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_damaged_and_absent_manifests(manifests, tmp_path, capsys):
    (path,) = manifests[0].glob("*supervisions*")
    path.write_bytes(path.read_bytes()[:-9])
    (tmp_path / "none").mkdir()
    for source, says in (
        (manifests[0], "damaged, or not JSON"),
        (tmp_path / "none", "no manifests"),
    ):
        assert interchange.main(["from_lhotse", str(source), str(tmp_path / "data")]) == 2
        assert says in capsys.readouterr().err
