"""A file for transcription is read whole and sound, or an error names it and says what to do."""

import io
import re

import numpy as np
import pytest
import soundfile

from espnet_blora.data import audio
from espnet_blora.data.audio_files import AudioFile

RATE = 16000
NOISE = 0.1 * np.random.default_rng(0).standard_normal(3 * RATE)


def whole(file):
    return np.concatenate(list(file))


def encoded(suffix, wave=NOISE, rate=RATE):
    kind = "NIST" if suffix == "sph" else suffix.upper()
    stream = io.BytesIO()
    soundfile.write(stream, wave, rate, format=kind)
    return stream.getvalue()


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "sph", "aiff", "au", "rf64"])
def test_formats_and_their_first_half(tmp_path, suffix):
    """The whole file is read; half a file never passes for a whole one."""
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(encoded(suffix))
    found = AudioFile.open(path)
    assert found.samples == len(NOISE) and found.notes == ()
    np.testing.assert_array_equal(whole(found), audio.read(path))
    path.write_bytes(encoded(suffix)[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"a\.{suffix}"):
        AudioFile.open(path)


def test_ogg_says_nowhere_how_long_it_is(tmp_path):
    """What breaks off is as long as it is; some programs write no end mark, so it is a note."""
    path = tmp_path / "a.ogg"
    data = encoded("ogg", np.tile(NOISE, 20))
    path.write_bytes(data)
    found = AudioFile.open(path)
    assert found.samples == 20 * len(NOISE) and found.notes == ()
    path.write_bytes(data[: len(data) // 2])
    found = AudioFile.open(path)
    assert 0 < found.samples < 15 * len(NOISE)
    assert found.notes == ("no end mark in the Ogg stream, which may be cut off",)


def test_a_flac_that_lacks_its_last_bytes(tmp_path):
    path = tmp_path / "a.flac"
    path.write_bytes(encoded("flac")[:-200])
    with pytest.raises(ValueError, match=r"a\.flac"):
        AudioFile.open(path)


def test_a_wav_whose_header_does_not_know_its_length(tmp_path):
    """As ffmpeg writes it into a pipe: the largest number stands where the length is not known."""
    path = tmp_path / "a.wav"
    data = bytearray(encoded("wav"))
    data[4:8] = data[40:44] = b"\xff" * 4
    path.write_bytes(data)
    assert AudioFile.open(path).samples == len(NOISE)


def test_a_sloppy_header_is_no_fault(tmp_path):
    path = tmp_path / "a.wav"
    data = bytearray(encoded("wav"))
    data[40:44] = (len(NOISE) * 2 + 44).to_bytes(4, "little")  # the file's length, not the data's
    path.write_bytes(data)
    assert AudioFile.open(path).samples == len(NOISE)


def test_long_audio_is_read_in_blocks_and_twice_alike(tmp_path):
    wave = np.tile(NOISE, 15)[: 41 * RATE]
    path = tmp_path / "long.wav"
    soundfile.write(path, wave, RATE)
    found = AudioFile.open(path)
    assert found.samples == 41 * RATE and len(found.head) == 30 * RATE
    blocks = list(found)
    assert len(blocks) == 2
    np.testing.assert_array_equal(np.concatenate(blocks), audio.read(path))
    np.testing.assert_array_equal(found.head, audio.read(path)[: 30 * RATE])
    np.testing.assert_array_equal(whole(found), whole(found))


@pytest.mark.parametrize("rate", [8000, 22050, 48000])
def test_other_rates_and_channels_are_converted_with_a_note(tmp_path, rate):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(33 * rate) / rate)
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([tone, np.zeros_like(tone)], axis=1), rate)
    found = AudioFile.open(path)
    assert abs(found.samples - 33 * RATE) <= 1
    assert found.notes == (
        "2 channels, their mean is taken",
        f"{rate} Hz, resampled to 16000",
    )
    wave = whole(found)
    assert len(wave) == found.samples
    inner = slice(RATE, -RATE)
    expected = 0.25 * np.sin(2 * np.pi * 440 * np.arange(len(wave)) / RATE)
    np.testing.assert_allclose(wave[inner], expected[inner], atol=2e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(tmp_path, value):
    wave = NOISE.copy()
    wave[24000] = value
    soundfile.write(tmp_path / "a.wav", wave, RATE, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"a\.wav: NaN .*1\.50 s"):
        AudioFile.open(tmp_path / "a.wav")


def test_what_is_no_audio(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.wav"):
        AudioFile.open(tmp_path / "none.wav")
    with pytest.raises(ValueError, match=re.escape(str(tmp_path))):
        AudioFile.open(tmp_path)
    (tmp_path / "e.wav").write_bytes(b"")
    with pytest.raises(ValueError, match=r"e\.wav: .*empty"):
        AudioFile.open(tmp_path / "e.wav")
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    with pytest.raises(ValueError, match=r"a\.m4a: .*ffmpeg -i a\.m4a"):
        AudioFile.open(tmp_path / "a.m4a")
    soundfile.write(tmp_path / "z.wav", np.zeros(0), RATE)
    with pytest.raises(ValueError, match=r"z\.wav"):
        AudioFile.open(tmp_path / "z.wav")


def test_one_sample_is_audio_and_silence_is_noted(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(1), RATE)
    found = AudioFile.open(tmp_path / "a.wav")
    assert found.samples == 1 and found.notes == ("all samples are zero",)
