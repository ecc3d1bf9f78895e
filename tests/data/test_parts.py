"""Parts and unions of data directories keep what they hold, and clashes are named."""

import numpy as np
import pytest

from espnet_blora.data import audio, kaldi, parts


@pytest.fixture
def make(tmp_path):
    """Write a data directory of utterances `speaker-x` that last so many seconds."""

    def write(name, seconds, segments=False, utt2dur=True):
        wav, folder = {}, tmp_path / name
        folder.mkdir()
        for key, span in seconds.items():
            wav[key] = str(folder / f"{key}.wav")
            audio.write(wav[key], np.zeros(int(16000 * span), dtype=np.int16))
        kaldi.write_data_dir(
            folder,
            wav,
            {key: f"text of {key}" for key in wav},
            {key: key.split("-")[0] for key in wav},
            {key: "zh" if key.endswith("z") else "en" for key in wav},
            seconds if utt2dur else None,
        )
        if segments:
            (folder / "utt2dur").unlink(missing_ok=True)
            kaldi.write_keyed(folder / "segments", {k: f"{k} 0.0 0.5" for k in wav})
        return folder

    return write


NAMES = ("wav.scp", "text", "utt2spk", "utt2lang", "spk2utt")


def test_subset(make, tmp_path, kaldi_says):
    source = make("a", {"s1-a": 1.0, "s1-z": 2.0, "s2-c": 3.0})
    parts.subset(source, tmp_path / "part", ["s2-c", "s1-z"])
    assert kaldi.validate(tmp_path / "part") == kaldi.Summary(2, 2, {"zh": 1, "en": 1}, 5.0)
    assert kaldi.read_keyed(tmp_path / "part/utt2dur") == {"s1-z": "2.0000", "s2-c": "3.0000"}
    assert kaldi_says(tmp_path / "part") == ""
    with pytest.raises(ValueError, match="no utterance s9-z"):
        parts.subset(source, tmp_path / "part", ["s9-z"])
    with pytest.raises(ValueError, match="empty"):
        parts.subset(source, tmp_path / "part", [])


def test_subset_of_segments_keeps_the_recordings_it_needs(make, tmp_path, kaldi_says):
    source = make("a", {"s1-a": 1.0, "s2-c": 3.0}, segments=True)
    parts.subset(source, tmp_path / "part", ["s2-c"])
    assert list(kaldi.read_keyed(tmp_path / "part/wav.scp")) == ["s2-c"]
    assert kaldi.validate(tmp_path / "part").seconds == 0.5
    assert kaldi_says(tmp_path / "part") == ""


def test_what_was_there_before_does_not_stay(make, tmp_path):
    cut = make("cut", {"s1-a": 1.0}, segments=True)
    parts.copy(make("whole", {"s1-b": 1.0}), cut)
    assert not (cut / "segments").exists()
    assert kaldi.validate(cut).utterances == 1


@pytest.mark.parametrize("segments", [False, True])
def test_copy_with_a_prefix(make, tmp_path, segments, kaldi_says):
    source = make("a", {"s1-a": 1.0, "s2-z": 2.0}, segments)
    parts.copy(source, tmp_path / "same")
    for name in NAMES:
        assert (tmp_path / "same" / name).read_bytes() == (source / name).read_bytes()
    parts.copy(source, tmp_path / "other", "x_")
    found = kaldi.read_keyed(tmp_path / "other/utt2spk")
    assert found == {"x_s1-a": "x_s1", "x_s2-z": "x_s2"}
    assert kaldi.read_keyed(tmp_path / "other/text")["x_s1-a"] == "text of s1-a"
    assert kaldi.validate(tmp_path / "other") == kaldi.validate(source)
    assert kaldi_says(tmp_path / "other") == ""


def test_combine(make, tmp_path, kaldi_says, caplog):
    a, b = make("a", {"s1-a": 1.0, "s3-z": 2.0}), make("b", {"s2-b": 4.0})
    parts.combine([a, b], tmp_path / "ab")
    assert kaldi.validate(tmp_path / "ab") == kaldi.Summary(3, 3, {"en": 2, "zh": 1}, 7.0)
    assert len(kaldi.read_keyed(tmp_path / "ab/utt2dur")) == 3
    assert kaldi_says(tmp_path / "ab") == ""
    c = make("c", {"s4-a": 1.0}, utt2dur=False)
    parts.combine([a, c], tmp_path / "ac")
    assert not (tmp_path / "ac/utt2dur").exists()
    assert f"no utt2dur, since {c} have none" in caplog.text
    parts.combine([tmp_path / "ab", c], tmp_path / "ab")  # onto one of its own sources
    assert kaldi.validate(tmp_path / "ab").utterances == 4


def test_combine_with_segments_of_one_recording(make, tmp_path):
    a = make("a", {"s1-a": 1.0, "s2-b": 1.0}, segments=True)
    for name, key in (("x", "s1-a"), ("y", "s2-b")):
        parts.subset(a, tmp_path / name, [key])
        kaldi.write_keyed(tmp_path / name / "wav.scp", {"rec": str(a / "s1-a.wav")})
        kaldi.write_keyed(tmp_path / name / "segments", {key: "rec 0.0 0.5"})
    parts.combine([tmp_path / "x", tmp_path / "y"], tmp_path / "xy")
    assert list(kaldi.read_keyed(tmp_path / "xy/wav.scp")) == ["rec"]
    assert kaldi.validate(tmp_path / "xy").seconds == 1.0
    kaldi.write_keyed(tmp_path / "y/wav.scp", {"rec": str(a / "s2-b.wav")})
    with pytest.raises(ValueError, match=r"wav.scp: .*x and .*y both have rec"):
        parts.combine([tmp_path / "x", tmp_path / "y"], tmp_path / "xy")
    with pytest.raises(ValueError, match="have segments and .* have none"):
        parts.combine([tmp_path / "x", make("whole", {"s3-a": 1.0})], tmp_path / "xy")


def test_clashes_are_named(make, tmp_path):
    a, b = make("a", {"s1-a": 1.0, "s1-b": 1.0}), make("b", {"s1-b": 1.0, "s1-c": 1.0})
    with pytest.raises(ValueError, match=f"{a} and {b} both have s1-b; copy one of them with a pr"):
        parts.combine([a, b], tmp_path / "ab")
    assert not (tmp_path / "ab").exists()
    with pytest.raises(ValueError, match="named twice"):
        parts.combine([a, a], tmp_path / "ab")
    with pytest.raises(ValueError, match="nothing to combine"):
        parts.combine([], tmp_path / "ab")
    c = make("c", {"s1-0-a": 1.0})
    kaldi.write_keyed(c / "utt2spk", {"s1-0-a": "s1-0"})
    with pytest.raises(ValueError, match="speaker 's1' comes after 's1-0'"):
        parts.combine([a, c], tmp_path / "ab")


def test_choices_by_number_and_duration(make):
    a = make("a", {"s1-a": 1.0, "s1-b": 3.0, "s2-c": 2.0, "s2-d": 0.5})
    assert parts.first(a, 2) == ["s1-a", "s1-b"]
    for wrong in (0, 5):
        with pytest.raises(ValueError, match=f"first {wrong} of 4"):
            parts.first(a, wrong)
    assert parts.lasting(a, 1.0, 2.0) == ["s1-a", "s2-c"]
    assert parts.lasting(a, longest=0.9) == ["s2-d"]
    assert parts.up_to(a, 4.0) == ["s1-a", "s1-b"]
    assert parts.up_to(a, 100.0, seed=3) == ["s1-a", "s1-b", "s2-c", "s2-d"]
    chosen = {tuple(parts.up_to(a, 3.5, seed)) for seed in range(20)}
    assert len(chosen) > 2
    assert parts.up_to(a, 3.5, 1) == parts.up_to(a, 3.5, 1)


def test_durations_come_from_utt2dur_or_the_audio(make):
    a = make("a", {"s1-a": 1.0, "s1-b": 3.0}, utt2dur=False)
    assert parts.durations(a) == {"s1-a": 1.0, "s1-b": 3.0}
    parts.write_utt2dur(a)
    assert (a / "utt2dur").read_text() == "s1-a 1.0000\ns1-b 3.0000\n"
    (a / "s1-a.wav").unlink()
    assert parts.durations(a) == {"s1-a": 1.0, "s1-b": 3.0}
    with pytest.raises(ValueError, match="audio of s1-a: .*no such audio file"):
        parts.write_utt2dur(a)
    kaldi.write_keyed(a / "wav.scp", {"s1-a": "x.ark:3", "s1-b": str(a / "s1-b.wav")})
    with pytest.raises(ValueError, match="no audio files to look at: s1-a"):
        parts.write_utt2dur(a)
    for wrong in ("long", "0", "-1", "nan", "inf"):
        kaldi.write_keyed(a / "utt2dur", {"s1-a": wrong})
        with pytest.raises(ValueError, match="'s1-a'"):
            parts.durations(a)
