"""The BLoRA authors' format: a round trip, and every line that cannot be used is listed."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_blora.bin import interchange as program
from espnet_blora.data import audio, kaldi
from espnet_blora.data.interchange import export_directory, export_lines, import_file
from espnet_blora.data.records import Ledger
from espnet_blora.utils.keyed import c_sorted, read_keyed, write_keyed

# Blanks other than a single one inside do not survive Kaldi's own files either.
words = st.text(st.characters(codec="utf-8", exclude_categories=("Z", "C")), min_size=1, max_size=6)
texts = st.lists(words, min_size=1, max_size=4).map(" ".join)
keys = st.text(st.sampled_from("abyz0189_-+."), min_size=1, max_size=8)
spans = st.floats(0.01, 60.0)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("interchange")


@settings(deadline=None)  # files are synced, and a busy disk takes its time
@given(st.dictionaries(keys, st.tuples(texts, spans), min_size=1, max_size=6))
def test_round_trip(folder, utterances):
    text = {key: words for key, (words, _) in utterances.items()}
    wav = {key: f"/clips/{key}.flac" for key in text}
    same = dict.fromkeys(text, "x")
    seconds = {key: max(span, 0.0001) for key, (_, span) in utterances.items()}
    kaldi.write_data_dir(folder / "a", wav, text, same, same, seconds)
    ledger = Ledger()
    assert export_directory(folder / "a", folder / "a.stm", ledger) == len(text)
    assert import_file(folder / "a.stm", folder / "b", "zh", ledger) == len(text)
    assert ledger.skips == []
    for name in ("wav.scp", "text"):
        assert (folder / "a" / name).read_bytes() == (folder / "b" / name).read_bytes()
    assert read_keyed(folder / "b/utt2lang") == dict.fromkeys(text, "zh")
    assert kaldi.misplaced_speaker(read_keyed(folder / "b/utt2spk")) is None
    again = [line.split("\t") for line in export_lines_with(folder, seconds)]
    assert [fields[4] for fields in again] == [
        str(round(1000 * float(f"{seconds[key]:.4f}"))) for key in c_sorted(text)
    ]


def export_lines_with(folder, seconds):
    write_keyed(folder / "b/utt2dur", {key: f"{s:.4f}" for key, s in seconds.items()})
    return list(export_lines(folder / "b", Ledger()))


@pytest.fixture
def directory(tmp_path, monkeypatch):
    """Utterances of 0.4, 2 and 21 s, one of them with TABs in its text."""
    monkeypatch.chdir(tmp_path)
    wav = {}
    for key, seconds in (("s-a", 0.4), ("s-b", 2.0), ("s-c", 21.0)):
        wav[key] = f"{key}.wav"
        audio.write(wav[key], np.zeros(int(16000 * seconds), dtype=np.int16))
    text = {"s-a": "short", "s-b": "我去\tlibrary 借书", "s-c": "long"}
    kaldi.write_data_dir("d", wav, text, dict.fromkeys(wav, "s"), dict.fromkeys(wav, "zh"))
    return Path("d")


def test_what_is_written(directory, tmp_path):
    ledger = Ledger()
    assert list(export_lines(directory, ledger)) == [
        f"s-a\t{tmp_path}/s-a.wav\t-1\t-1\t400\tshort",
        f"s-b\t{tmp_path}/s-b.wav\t-1\t-1\t2000\t我去 library 借书",
        f"s-c\t{tmp_path}/s-c.wav\t-1\t-1\t21000\tlong",
    ]
    assert ledger.note_counts() == {"longer than 20000 ms": 1, "shorter than 500 ms": 1}
    assert [line[:3] for line in export_lines(directory, ledger, training=True)] == ["s-b"]
    assert [entry.id for entry in ledger.skips] == ["s-a", "s-c"]


@pytest.mark.parametrize(
    ("name", "lines", "says"),
    [
        ("segments", {"s-a": "s-a 0 1"}, "has segments"),
        ("wav.scp", {"s-a": "sox x |", "s-b": "b.wav", "s-c": "c.wav"}, "'s-a' is not a file"),
        ("text", {"s-a": "x"}, "wav.scp and text differ in s-b, s-c"),
        ("utt2dur", {"s-a": "1.0"}, "utt2dur: no s-b, s-c"),
    ],
)
def test_directories_that_cannot_be_written(directory, name, lines, says):
    write_keyed(directory / name, lines)
    with pytest.raises(ValueError, match=re.escape(says)):
        list(export_lines(directory, Ledger()))


def imported(tmp_path, *lines, **options):
    (tmp_path / "a.stm").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    ledger = Ledger()
    count = import_file(tmp_path / "a.stm", tmp_path / "d", "zh", ledger, **options)
    return count, ledger


GOOD = "ni97m-x_0101-000812\t/c/x.wav\t-1\t-1\t3335\t我昨天去 library 借书"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("u\t/a.wav\t-1\t-1\t900", "fewer than 6 fields"),
        ("", "fewer than 6 fields"),
        ("u\ta.wav\t-1\t-1\t900\tx", "path without '/'"),
        ("u\tcat /a.wav |\t-1\t-1\t900\tx", "path without '/'"),
        ("u\t/my a.wav\t-1\t-1\t900\tx", "path holds a blank"),
        ("u\t/a.wav\t-1\t-1\t900\t \t ", "empty text"),
        ("u\t/a.wav\t-1\t-1\tlong\tx", "start, end or duration is not a number"),
        ("u\t/a.wav\tnan\t-1\t900\tx", "start, end or duration is not a number"),
        ("u v\t/a.wav\t-1\t-1\t900\tx", "uid is empty or holds blanks"),
        ("\t/a.wav\t-1\t-1\t900\tx", "uid is empty or holds blanks"),
    ],
)
def test_lines_that_are_skipped(tmp_path, line, reason):
    count, ledger = imported(tmp_path, line, GOOD)
    assert count == 1
    assert ledger.counts() == {reason: 1}
    assert ledger.skips[0].where == f"{tmp_path}/a.stm:1"
    with pytest.raises(ValueError, match=re.escape(f"no line can be used (1 {reason})")):
        imported(tmp_path, line)


def test_what_is_read(tmp_path, kaldi_says):
    lines = [GOOD, "ni98f-y\t/c/y.wav\t-1\t-1\t400\tone\ttwo  three\r", "a-z\tc/z.wav\t-1\t0\t1\tx"]
    assert imported(tmp_path, *lines)[0] == 3
    assert read_keyed(tmp_path / "d/text") == {
        "ni97m-x_0101-000812": "我昨天去 library 借书",
        "ni98f-y": "one two three",
        "a-z": "x",
    }
    assert read_keyed(tmp_path / "d/utt2spk")["ni97m-x_0101-000812"] == "ni97m"
    assert kaldi_says(tmp_path / "d") == ""
    count, ledger = imported(tmp_path, *lines, training=True)
    assert (count, ledger.counts()) == (1, {"shorter than 500 ms": 2})


def test_ids_without_speakers(tmp_path):
    for ids in (("a-1", "b"), ("a+b-1", "a-1"), ("-1", "a-1")):
        imported(tmp_path, *(f"{key}\t/c/x.wav\t-1\t-1\t900\tx" for key in ids))
        assert read_keyed(tmp_path / "d/utt2spk") == {key: key for key in ids}


@pytest.mark.parametrize("unit", [1, 1000])
def test_times_in_seconds_or_milliseconds(tmp_path, unit, kaldi_says):
    audio.write(tmp_path / "x.wav", np.zeros(160000, dtype=np.int16))
    times = [(1.5, 3.25), (4.0, 4.75)]
    lines = [
        f"s-{n}\t{tmp_path}/x.wav\t{a * unit:g}\t{b * unit:g}\t{1000 * (b - a):g}\tx"
        for n, (a, b) in enumerate(times)
    ]
    imported(tmp_path, *lines)
    assert read_keyed(tmp_path / "d/segments") == {
        "s-0": "s-0 1.5000 3.2500",
        "s-1": "s-0 4.0000 4.7500",
    }
    assert kaldi.validate(tmp_path / "d").seconds == 2.5
    assert kaldi_says(tmp_path / "d") == ""
    with pytest.raises(ValueError, match="a-a"):
        imported(tmp_path, *lines, "a-a\t/c/x.wav\t-1\t-1\t900\tx")
    with pytest.raises(ValueError, match=r"a.stm:1: 's-0' .*90 ms .*1.5 .*3"):
        imported(tmp_path, f"s-0\t{tmp_path}/x.wav\t1.5\t3\t90\tx")


def test_files_that_cannot_be_trusted(tmp_path):
    with pytest.raises(FileNotFoundError, match="nosuch.stm"):
        import_file(tmp_path / "nosuch.stm", tmp_path / "d", "zh", Ledger())
    with pytest.raises(ValueError, match=r"a.stm:2: .*'ni97m-x_0101-000812' .*a.stm:1"):
        imported(tmp_path, GOOD, GOOD)
    (tmp_path / "a.stm").write_bytes(GOOD.encode() + b"\n\xff\n")
    with pytest.raises(ValueError, match=r"a.stm:2: .*UTF-8.*0xff"):
        import_file(tmp_path / "a.stm", tmp_path / "d", "zh", Ledger())


def test_program(directory, tmp_path, capsys):
    assert program.main(["export", "d", "out/d.stm", "--training"]) == 0
    out = capsys.readouterr().out
    assert "out/d.stm: 1 utterances" in out
    assert "left out, shorter than 500 ms: 1" in out
    listed = Path("out/d.stm.left_out.tsv").read_text().splitlines()
    assert [line.split("\t")[1] for line in listed] == ["s-a", "s-c"]
    assert program.main(["import", "out/d.stm", "back", "--language", "zh"]) == 0
    assert read_keyed("back/text") == {"s-b": "我去 library 借书"}
    assert Path("back/left_out.tsv").read_text() == ""
    assert program.main(["import", "nosuch.stm", "back", "--language", "zh"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(SystemExit) as caught:
        program.main(["import", "out/d.stm", "back", "--language", "chinese"])
    assert caught.value.code == 2
