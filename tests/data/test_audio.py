"""Audio files become 16 kHz mono; what cannot be read is said."""

import numpy as np
import pytest
import soundfile

from espnet_blora.data import audio


def tone(rate, seconds=0.5):
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(int(rate * seconds)) / rate)


def test_other_rates_and_channels_become_16k_mono(tmp_path):
    left = tone(8000)
    soundfile.write(tmp_path / "s.wav", np.stack([left, np.zeros_like(left)], axis=1), 8000)
    wave = audio.read(tmp_path / "s.wav")
    assert wave.dtype == np.float32
    assert wave.shape == (8000,)
    assert audio.duration(tmp_path / "s.wav") == 0.5
    middle = slice(1000, 7000)
    np.testing.assert_allclose(wave[middle], 0.5 * tone(16000)[middle], atol=2e-3)


def test_int16_round_trip_is_exact(tmp_path):
    wave = np.arange(-32768, 32768, 7, dtype=np.int16)
    audio.write(tmp_path / "a.wav", wave)
    np.testing.assert_array_equal(audio.read(tmp_path / "a.wav") * 32768, wave)
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]


def test_bad_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"x\.wav"):
        audio.duration(tmp_path / "x.wav")
    (tmp_path / "x.wav").write_bytes(b"RIFFnonsense")
    with pytest.raises(ValueError, match=r"x\.wav"):
        audio.read(tmp_path / "x.wav")
    soundfile.write(tmp_path / "e.wav", np.zeros(0), 16000)
    with pytest.raises(ValueError, match=r"e\.wav"):
        audio.read(tmp_path / "e.wav")


def test_a_failed_write_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"a\.wav"):
        audio.write(tmp_path / "file" / "a.wav", np.zeros(10, dtype=np.int16))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_archive_offsets():
    assert audio.is_archive_offset("dump/raw/data_wav.ark:1234")
    assert not audio.is_archive_offset("/data/a:b/x.wav")
