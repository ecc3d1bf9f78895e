"""Kaldi data directories: round trips, and one clear error for each kind of bad input."""

import re
import tracemalloc

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from espnet_blora.data import audio, kaldi
from espnet_blora.utils import atomic
from espnet_blora.utils.keyed import read_keyed, write_keyed

keys = st.text(st.characters(codec="utf-8", exclude_categories=("Z", "C")), min_size=1, max_size=8)
values = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=20)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("keyed")


@given(st.dictionaries(keys, values.map(lambda v: v.strip(" \t")), max_size=8))
def test_what_is_written_is_read_back(folder, mapping):
    write_keyed(folder / "text", mapping)
    assert read_keyed(folder / "text") == mapping
    lines = [x for x in (folder / "text").read_bytes().split(b"\n") if x]
    assert [x.split(b" ")[0] for x in lines] == sorted(k.encode() for k in mapping)


def test_order_is_that_of_bytes_not_of_python(tmp_path):
    # U+10000 sorts below U+FFFD in UTF-16 and in some locales; by bytes it comes after
    write_keyed(tmp_path / "text", {"\U00010000": "b", "\ufffd": "a", "Z": "1", "a": "2"})
    assert list(read_keyed(tmp_path / "text")) == ["Z", "a", "\ufffd", "\U00010000"]


def test_tabs_and_lone_keys(tmp_path):
    (tmp_path / "text").write_bytes(b"a\tone two \nb\nc   x")
    assert read_keyed(tmp_path / "text") == {"a": "one two", "b": "", "c": "x"}


@pytest.mark.parametrize(
    ("data", "line", "says"),
    [
        (b"a 1\nb 2\na 3\n", 3, "duplicate id 'a', first seen on line 1"),
        (b"a 1\n\nb 2\n", 2, "empty id"),
        (b"a 1\n b 2\n", 2, "empty id"),
        (b"a 1\r\nb 2\r\n", 1, "carriage return"),
        (b"\xef\xbb\xbfa 1\n", 1, "byte order mark"),
        (b"a 1\nb \xff\xfe\n", 2, "not UTF-8 (byte 0xff at column 3)"),
        ("a 1\nb\u3000c 2\n".encode(), 2, "contains '\\u3000'"),
    ],
)
def test_bad_lines_are_named(tmp_path, data, line, says):
    path = tmp_path / "text"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=re.escape(f"{path}:{line}: ")) as caught:
        read_keyed(path)
    assert says in str(caught.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nosuch"):
        read_keyed(tmp_path / "nosuch")


@pytest.mark.parametrize("mapping", [{"": "x"}, {"a b": "x"}, {"a": "x\ny"}])
def test_unwritable_entries_leave_the_old_file(tmp_path, mapping):
    write_keyed(tmp_path / "text", {"old": "1"})
    with pytest.raises(ValueError, match="text"):
        write_keyed(tmp_path / "text", mapping)
    assert read_keyed(tmp_path / "text") == {"old": "1"}
    assert [p.name for p in tmp_path.iterdir()] == ["text"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    write_keyed(tmp_path / "text", {"old": "1"})

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_keyed(tmp_path / "text", {"new": "1"})
    monkeypatch.undo()
    assert read_keyed(tmp_path / "text") == {"old": "1"}
    assert [p.name for p in tmp_path.iterdir()] == ["text"]


def test_languages(tmp_path):
    write_keyed(tmp_path / "utt2lang", {"a": "zh", "b": "en"})
    assert kaldi.read_utt2lang(tmp_path / "utt2lang", {"zh", "en"}) == {"a": "zh", "b": "en"}
    with pytest.raises(ValueError, match=r"'b' .*'en'.*: ar, zh"):
        kaldi.read_utt2lang(tmp_path / "utt2lang", {"zh", "ar"})
    write_keyed(tmp_path / "utt2lang", {"a": ""})
    with pytest.raises(ValueError, match="'a' "):
        kaldi.read_utt2lang(tmp_path / "utt2lang")


@pytest.fixture
def good(tmp_path):
    """A good data directory of three utterances of two speakers, one second each."""
    wav = {}
    for key in ("s1-a", "s1-b", "s2-c"):
        wav[key] = str(tmp_path / f"{key}.wav")
        audio.write(wav[key], np.zeros(16000, dtype=np.int16))
    directory = tmp_path / "data"
    kaldi.write_data_dir(
        directory,
        wav,
        {"s1-a": "hello", "s1-b": "我们 go", "s2-c": "走"},
        {key: key[:2] for key in wav},
        {"s1-a": "en", "s1-b": "zh", "s2-c": "zh"},
    )
    return directory


def rewrite(directory, name, **changes):
    keyed = read_keyed(directory / name)
    for key, value in changes.items():
        key = key.replace("_", "-")
        if value is None:
            del keyed[key]
        else:
            keyed[key] = value
    write_keyed(directory / name, keyed)


def test_a_good_directory(good):
    found = kaldi.validate(good, {"en", "zh"})
    assert found == kaldi.Summary(3, 2, {"en": 1, "zh": 2}, 3.0)
    assert read_keyed(good / "spk2utt") == {"s1": "s1-a s1-b", "s2": "s2-c"}


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("text", {"s1_b": None}, "in wav.scp but not in text: s1-b"),
        ("wav.scp", {"s1_b": None}, "in text but not in wav.scp: s1-b"),
        ("utt2lang", {"s2_c": None}, "in wav.scp but not in utt2lang: s2-c"),
        ("utt2spk", {"s2_c": None}, "in wav.scp but not in utt2spk: s2-c"),
        ("utt2lang", {"s9_x": "en"}, "in utt2lang but not in wav.scp: s9-x"),
        ("text", {"s1_a": ""}, "empty in text: s1-a"),
        ("wav.scp", {"s1_a": "/nosuch.wav"}, "audio of s1-a: /nosuch.wav: no such audio file"),
        ("text", {"s1_a": "a\u00a0b"}, "U+00A0) in text: s1-a"),
        ("spk2utt", {"s1": "s1-a"}, "other speakers in spk2utt than in utt2spk: s1-b"),
        ("spk2utt", {"s1": "s1-a", "s2": "s1-b s2-c"}, "than in utt2spk: s1-b"),
        ("utt2spk", {"s1_a": "s3"}, "speaker s1 comes after s3"),
        ("utt2lang", {"s1_a": "fr"}, "'s1-a' has language 'fr'; allowed: en, zh"),
    ],
)
def test_bad_directories_name_the_utterance(good, name, changes, says):
    rewrite(good, name, **changes)
    with pytest.raises(ValueError, match=re.escape(says)) as caught:
        kaldi.validate(good, {"en", "zh"})
    assert str(good) in str(caught.value)


def test_what_kaldi_would_stop_at_is_said_before(good, kaldi_says):
    lines = (good / "text").read_text("utf-8").splitlines(keepends=True)
    (good / "text").write_text("".join(reversed(lines)), "utf-8")
    (good / "spk2utt").unlink()
    says = r"text is not sorted .*: s1-b after s2-c\n  no spk2utt"
    with pytest.raises(ValueError, match=says):
        kaldi.validate(good)
    assert kaldi_says(good) != ""


def test_all_problems_come_in_one_error(good, tmp_path):
    (tmp_path / "s1-a.wav").write_bytes(b"not audio at all")
    audio.write(tmp_path / "s1-b.wav", np.zeros(100, dtype=np.int16))
    audio.write(tmp_path / "s2-c.wav", np.zeros(33 * 16000, dtype=np.int16))
    with pytest.raises(ValueError, match=re.escape(str(good))) as caught:
        kaldi.validate(good, max_seconds=30.0)
    message = str(caught.value)
    assert "audio of s1-a" in message
    assert "cannot be read as audio" in message
    assert "shorter than 0.1 s: s1-b" in message
    assert "longer than 30.0 s (cut these): s2-c" in message


def test_many_bad_ids_are_counted(tmp_path):
    ids = [f"u{n:03d}" for n in range(200)]
    wav = dict.fromkeys(ids, "/nosuch.wav")
    kaldi.write_data_dir(tmp_path / "d", wav, {"u000": "x"}, dict.fromkeys(ids, "s"), {})
    with pytest.raises(ValueError, match=r"text: u001, .* 189 "):
        kaldi.validate(tmp_path / "d", check_audio=False)


def test_segments(good):
    for name in ("text", "utt2spk", "utt2lang"):
        (good / name).unlink()
    rows = {"s1-x": "s1-a 0.25 0.75", "s1-y": "s1-a 0.75 1.0"}
    write_keyed(good / "segments", rows)
    write_keyed(good / "text", dict.fromkeys(rows, "hi"))
    write_keyed(good / "utt2spk", dict.fromkeys(rows, "s1"))
    write_keyed(good / "spk2utt", {"s1": "s1-x s1-y"})
    write_keyed(good / "utt2lang", dict.fromkeys(rows, "en"))
    assert kaldi.validate(good).seconds == 0.75
    for bad in ("s1-a 0.5 0.5", "s1-a 2.0 3.0", "s9 0 1", "s1-a 0"):
        rewrite(good, "segments", s1_x=bad)
        with pytest.raises(ValueError, match=r"s1-x"):
            kaldi.validate(good)


def test_pipes_are_counted_not_run(good, caplog):
    rewrite(good, "wav.scp", s1_a="false |", s1_b="x.ark:17")
    assert kaldi.validate(good).seconds == 1.0
    assert "2 entries are pipes or archives" in caplog.text


def test_audio_that_is_not_16_khz_mono_is_refused_where_that_is_asked_for(good):
    wav = read_keyed(good / "wav.scp")
    soundfile.write(wav["s1-a"], np.zeros((8000, 2), dtype=np.int16), 8000, format="WAV")
    assert kaldi.validate(good).seconds == 3.0
    with pytest.raises(ValueError, match=r"8000 Hz .*2 channels .*: s1-a$"):
        kaldi.validate(good, mono_16k=True)


def test_what_was_there_before_does_not_stay(good):
    write_keyed(good / "segments", {"s1-a": "s1-a 0.0 0.5"})
    write_keyed(good / "utt2dur", {"s1-a": "1.0"})
    wav = {"s1-b": read_keyed(good / "wav.scp")["s1-b"]}
    kaldi.write_data_dir(good, wav, {"s1-b": "x"}, {"s1-b": "s1"}, {"s1-b": "en"})
    assert kaldi.validate(good) == kaldi.Summary(1, 1, {"en": 1}, 1.0)
    assert not (good / "utt2dur").exists()


def test_durations_come_from_utt2dur_or_the_audio(good, tmp_path):
    seconds = {"s1-a": 1.0, "s1-b": 1.0, "s2-c": 1.0}
    assert kaldi.durations(good) == seconds
    wav = read_keyed(good / "wav.scp")
    (tmp_path / "s1-a.wav").unlink()
    with pytest.raises(ValueError, match="s1-a: "):
        kaldi.durations(good)
    write_keyed(good / "wav.scp", wav | {"s1-a": "x.ark:3"})
    with pytest.raises(ValueError, match="s1-a"):
        kaldi.durations(good)
    write_keyed(good / "utt2dur", {key: f"{2 * n:.4f}" for key, n in seconds.items()})
    assert kaldi.durations(good) == dict.fromkeys(seconds, 2.0)
    for wrong in ("long", "0", "-1", "nan", "inf"):
        write_keyed(good / "utt2dur", {"s1-a": wrong})
        with pytest.raises(ValueError, match="'s1-a'"):
            kaldi.durations(good)


def test_a_million_utterances_are_checked_in_less_than_two_gigabytes(tmp_path):
    """By the bytes per utterance of a fiftieth of them; a million took 1.6 GB and 9 CPU seconds."""
    count = 20_000
    ids = [f"speaker{i // 100:05d}-recording{i // 10:06d}-{i:07d}" for i in range(count)]
    kaldi.write_data_dir(
        tmp_path / "set",
        {id: f"/data/corpora/some/folder/of/clips/train/{id}.flac" for id in ids},
        {id: f"this is sentence {id[-7:]} of 我们 的 corpus and it is not short" for id in ids},
        {id: id[:12] for id in ids},
        dict.fromkeys(ids, "zh"),
    )
    del ids
    tracemalloc.start()
    try:
        summary = kaldi.validate(tmp_path / "set", {"zh"}, check_audio=False)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert summary.utterances == count and summary.speakers == count // 100
    assert peak / count < 1300  # 1,047 here; what the process holds is half as much again
