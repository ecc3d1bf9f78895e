"""Utterances are cut where they are, bit for bit where possible, and what cannot be cut is said."""

import math
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from espnet_blora.data.clips import Clip, cut_all, cut_recording
from espnet_blora.utils import atomic
from tests.data.layouts import speech


def clip(folder, name, start=None, end=None, channel=None):
    return Clip(name, start, end, channel, str(folder / f"{name}.flac"))


def noise(samples, seed=0):
    return np.random.default_rng(seed).integers(-30000, 30000, samples, dtype=np.int16)


def test_16_khz_comes_out_bit_for_bit_in_the_order_asked_for(tmp_path):
    wave = noise(70 * 16000)
    soundfile.write(tmp_path / "r.flac", wave, 16000)
    requests = [
        clip(tmp_path, "late", 50.25, 51.5),
        clip(tmp_path, "long", 1.0, 66.0),  # more than one block
        clip(tmp_path, "early", 0.0, 0.5),
        clip(tmp_path, "all"),
    ]
    done = cut_recording(tmp_path / "r.flac", requests)
    assert [(c.id, c.samples, c.reason) for c in done] == [
        ("late", 20000, ""),
        ("long", 65 * 16000, ""),
        ("early", 8000, ""),
        ("all", 70 * 16000, ""),
    ]
    assert done[1].notes == (("longer than 30 s", "65.00 s"),)
    for c in requests:
        cut, rate = soundfile.read(c.target, dtype="int16")
        info = soundfile.info(c.target)
        first = round(16000 * (c.start or 0))
        np.testing.assert_array_equal(cut, wave[first : first + len(cut)])
        assert (rate, info.channels, info.subtype, info.format) == (16000, 1, "PCM_16", "FLAC")
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".flac"] * 5


@pytest.mark.parametrize("name", ["a.flac", "a.wav", "a.sph", "a.mp3"])
@pytest.mark.parametrize(("channel", "hz"), [(0, 440), (1, 1000)])
def test_every_format_gives_the_channel_asked_for(tmp_path, name, channel, hz):
    both = speech.stereo(speech.tone(3.0, 440, 8000), speech.tone(3.0, 1000, 8000))
    speech.write(tmp_path / name, both, 8000)
    (done,) = cut_recording(tmp_path / name, [clip(tmp_path, "x", 1.0, 2.5, channel)])
    assert (done.samples, done.reason) == (24000, "")
    wave, rate = soundfile.read(tmp_path / "x.flac")
    assert rate == 16000
    assert abs(speech.loudest_hz(wave) - hz) < 2
    assert abs(np.abs(wave).max() - 0.5) < 0.1


def test_channels_are_averaged_and_44_khz_resampled(tmp_path):
    left = speech.tone(2.0, 440, 44100)
    speech.write(tmp_path / "a.flac", speech.stereo(left, np.zeros_like(left)), 44100)
    (done,) = cut_recording(tmp_path / "a.flac", [clip(tmp_path, "x")])
    wave, _ = soundfile.read(tmp_path / "x.flac")
    assert done.samples == len(wave) == 32000
    np.testing.assert_allclose(wave[500:-500], 0.5 * speech.tone(2.0, 440)[500:-500], atol=2e-4)


@pytest.mark.parametrize(
    ("start", "end", "channel", "reason"),
    [
        (2.0, 3.0, None, "no audio there"),
        (1.5, 2.2, None, "reaches beyond the recording"),
        (-0.5, 1.0, None, "reaches beyond the recording"),
        (1.0, 1.0, None, "ends before it starts"),
        (1.0, 0.5, None, "ends before it starts"),
        (math.nan, 1.0, None, "times are no numbers"),
        (0.0, math.inf, None, "times are no numbers"),
        (1.0, 1.05, None, "shorter than 0.1 s"),
        (0.0, 1.0, 1, "no such channel"),
        (0.0, 1.0, -1, "no such channel"),
    ],
)
def test_spans_that_are_not_there_have_a_reason(tmp_path, start, end, channel, reason):
    soundfile.write(tmp_path / "r.wav", noise(32000), 16000)
    requests = [clip(tmp_path, "x", start, end, channel), clip(tmp_path, "good", 0.5, 1.0)]
    bad, good = cut_recording(tmp_path / "r.wav", requests)
    assert bad.reason == reason
    assert bad.detail
    assert good.samples == 8000
    assert sorted(p.name for p in tmp_path.iterdir()) == ["good.flac", "r.wav"]


def test_rounding_errors_at_the_end_are_clipped_and_noted(tmp_path):
    soundfile.write(tmp_path / "r.wav", noise(32000), 16000)
    (done,) = cut_recording(tmp_path / "r.wav", [clip(tmp_path, "x", 1.0, 2.09)])
    assert done.samples == 16000
    assert done.notes == (("cut at the recording's end", "1-2.09 s of a recording of 2.00 s"),)


def test_damage_costs_only_what_it_hits(tmp_path):
    soundfile.write(tmp_path / "r.flac", noise(20 * 16000), 16000)
    data = bytearray((tmp_path / "r.flac").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = b"\x55" * 3000
    (tmp_path / "r.flac").write_bytes(bytes(data))
    requests = [clip(tmp_path, f"c{s}", s, s + 2.0) for s in (1.0, 9.0, 15.0)] + [
        clip(tmp_path, "all")
    ]
    done = cut_recording(tmp_path / "r.flac", requests)
    assert [c.samples for c in done] == [32000, 0, 32000, 0]
    assert {c.reason for c in done} == {"", "damaged audio"}
    assert "r.flac" in done[1].detail


@pytest.mark.parametrize("name", ["r.flac", "r.mp3", "r.wav"])
def test_truncated_files(tmp_path, name):
    speech.write(tmp_path / name, noise(20 * 16000) / 32768.0)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    requests = [clip(tmp_path, "early", 1.0, 3.0), clip(tmp_path, "late", 15.0, 17.0)]
    early, late = cut_recording(tmp_path / name, requests)
    assert early.samples == 32000
    assert late.reason in ("damaged audio", "no audio there")
    (whole,) = cut_recording(tmp_path / name, [clip(tmp_path, "all")])
    # half a WAV is a good, shorter WAV to every reader
    assert whole.reason == ("" if name == "r.wav" else "damaged audio")


def test_a_flac_that_does_not_say_how_long_it_is(tmp_path):
    """ffmpeg writes such headers into pipes."""
    soundfile.write(tmp_path / "r.flac", noise(48000), 16000)
    data = bytearray((tmp_path / "r.flac").read_bytes())
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    (tmp_path / "r.flac").write_bytes(bytes(data))
    assert soundfile.info(tmp_path / "r.flac").frames > 2**62
    (done,) = cut_recording(tmp_path / "r.flac", [clip(tmp_path, "x", 1.0, 2.0)])
    assert done.reason == "unreadable audio"
    assert "does not say how long it is; write it again: ffmpeg -i r.flac" in done.detail


@pytest.mark.parametrize(
    ("name", "data", "reason", "says"),
    [
        ("a.flac", None, "no audio", "no such audio file"),
        ("a.flac", b"", "unreadable audio", "the file is empty"),
        ("a.wav", b"RIFFnonsense", "unreadable audio", "cannot be read as audio"),
        ("a.m4a", b"\0\0\0 ftypM4A " + bytes(99), "unreadable audio", "ffmpeg -i a.m4a -ar 16000"),
        (
            "a.sph",
            b"NIST_1A\n   1024\nsample_coding -s26 ulaw,embedded-shorten-v2.00\nend_head\n"
            + bytes(999),
            "unreadable audio",
            "sph2pipe -f wav",
        ),
    ],
)
def test_files_that_are_no_audio(tmp_path, name, data, reason, says):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    (done,) = cut_recording(tmp_path / name, [clip(tmp_path, "x", 0.0, 1.0)])
    assert done.reason == reason
    assert says in done.detail
    assert str(tmp_path / name) in done.detail


def test_odd_samples(tmp_path):
    soundfile.write(tmp_path / "nan.wav", np.full(9000, np.nan), 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "inf.wav", np.full(9000, np.inf), 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "loud.wav", np.full(9000, 3.0), 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "silent.wav", np.zeros(9000), 16000)
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 16000)
    soundfile.write(tmp_path / "slow.wav", np.zeros(9000), 10)
    done = {
        name: cut_recording(tmp_path / f"{name}.wav", [clip(tmp_path, name)])[0]
        for name in ("nan", "inf", "loud", "silent", "none", "slow")
    }
    assert {name: c.reason for name, c in done.items()} == {
        "nan": "not finite",
        "inf": "not finite",
        "loud": "",
        "silent": "",
        "none": "unreadable audio",
        "slow": "unreadable audio",
    }
    assert done["silent"].notes == (("silent", ""),)
    assert "10 Hz" in done["slow"].detail
    assert soundfile.read(tmp_path / "loud.flac", dtype="int16")[0].min() == 32767


def test_processes_do_not_matter(tmp_path):
    jobs = {1: [], 2: []}
    for n in range(4):
        soundfile.write(tmp_path / f"r{n}.wav", noise(24000, n), 24000)
        for nj in jobs:
            (tmp_path / str(nj)).mkdir(exist_ok=True)
            requests = [clip(tmp_path / str(nj), f"r{n}-{s}", s, s + 0.5) for s in (0.5, 0.0)]
            jobs[nj].append((tmp_path / f"r{n}.wav", requests))
    done = {nj: list(cut_all(jobs[nj], nj)) for nj in jobs}
    assert done[1] == done[2]
    assert [c.id for c in done[2][3]] == ["r3-0.5", "r3-0.0"]
    written = {nj: {p.name: p.read_bytes() for p in (tmp_path / str(nj)).iterdir()} for nj in jobs}
    assert written[1] == written[2]
    assert len(written[1]) == 8
    with pytest.raises(ValueError, match="nj .*0"):
        list(cut_all(jobs[1], 0))


def test_a_failed_write_is_an_error_that_names_the_file(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "r.wav", noise(16000), 16000)
    with pytest.raises(OSError, match=r"r.wav/x.flac"):
        cut_recording(tmp_path / "r.wav", [clip(tmp_path / "r.wav", "x", 0.0, 1.0)])

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        cut_recording(tmp_path / "r.wav", [clip(tmp_path, "x", 0.0, 1.0)])
    assert [p.name for p in tmp_path.iterdir()] == ["r.wav"]


def test_long_recordings_are_never_held_whole(tmp_path):
    """20 min of 48 kHz stereo would be 920 MB as float64; piece by piece it takes tens."""
    second = np.stack([noise(48000), noise(48000, 1)], axis=1) // 64
    with soundfile.SoundFile(tmp_path / "r.wav", "w", 48000, 2, "PCM_16") as file:
        for _ in range(1200):
            file.write(second)
    code = (
        "import re, sys\nfrom pathlib import Path\n"
        "from espnet_blora.data.clips import Clip, cut_recording\n"
        "def most():  # not getrusage's, which knows the process that started this one\n"
        "    return int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])\n"
        "before = most()\n"
        "folder = Path(sys.argv[1])\n"
        "clips = [Clip(str(s), s, s + 2.0, None, str(folder / f'{s}.flac')) for s in "
        "(1.0, 600.0, 1190.0)]\n"
        "assert all(c.samples == 32000 for c in cut_recording(folder / 'r.wav', clips))\n"
        "print(most() - before)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100_000  # kB


# A clip of many minutes goes through in blocks too; its samples are those of one resampling.
def test_blocks_leave_no_seams(tmp_path):
    rate = 22050
    wave = speech.tone(65.0, 440, rate)
    soundfile.write(tmp_path / "r.wav", wave, rate)
    cut_recording(tmp_path / "r.wav", [clip(tmp_path, "x")])
    cut, _ = soundfile.read(tmp_path / "x.flac")
    expected = speech.tone(65.0, 440)
    assert len(cut) == len(expected)
    np.testing.assert_allclose(cut[300:-300], expected[300:-300], atol=2e-4)
