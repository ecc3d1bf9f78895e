"""The sounds that synthetic corpora are made of are what they say they are."""

import subprocess
import sys
import zlib

import numpy as np
import pytest
import soundfile

from tests.data.layouts import speech


def test_speech_is_the_same_in_every_process_and_fits_its_time():
    code = (
        "import zlib\nfrom tests.data.layouts import speech\n"
        "print(zlib.crc32(speech.say('我昨天去 library 借书', 'zh', voice='f2').tobytes()))"
    )
    command = [sys.executable, "-c", code]
    there = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    here = speech.say("我昨天去 library 借书", "zh", voice="f2")
    assert int(there) == zlib.crc32(here.tobytes())
    assert here.dtype == np.float32
    assert 0.5 < len(here) / speech.RATE < 6
    fitted = speech.say("我昨天去 library 借书", "zh", 7.5, voice="f2")
    assert len(fitted) == 7.5 * speech.RATE
    np.testing.assert_array_equal(fitted[: len(here)], here)


@pytest.mark.parametrize(
    ("text", "language", "voices"),
    [
        ("我去 library 3楼", "zh", ["cmn", "en", "cmn"]),
        ("42 people", "en", ["en"]),
        ("انا رايح the مول", "ar", ["ar", "en", "ar"]),
        ("fui al mall", "es", ["es"]),
        ("(…) <>", "en", []),
    ],
)
def test_each_language_is_read_by_its_own_voice(text, language, voices):
    assert [run.language for run in speech._runs(text, language, "m1")] == voices
    assert np.abs(speech.say(text, language)).max() > 0.05


@pytest.mark.parametrize("name", ["a.flac", "a.wav", "A.WAV", "a.mp3", "a.sph"])
def test_every_format_keeps_rate_channels_and_side(tmp_path, name):
    both = speech.stereo(speech.tone(1.0, 440, 8000), speech.tone(0.8, 1000, 8000))
    speech.write(tmp_path / name, both, 8000)
    wave, rate = soundfile.read(tmp_path / name)
    assert rate == 8000
    assert wave.shape[1] == 2
    assert abs(len(wave) - 8000) < 3000  # MP3 pads
    assert abs(speech.loudest_hz(wave[1000:5000, 0], 8000) - 440) < 5
    assert abs(speech.loudest_hz(wave[1000:5000, 1], 8000) - 1000) < 5


def test_u_law_is_that_of_libsndfile(tmp_path):
    wave = np.linspace(-1, 1, 4001, dtype=np.float32)
    speech.write_sphere(tmp_path / "a.sph", wave)
    read, rate = soundfile.read(tmp_path / "a.sph")
    assert rate == 8000
    assert np.abs(read - wave).max() < 0.035
    soundfile.write(tmp_path / "b.raw", wave, 8000, format="RAW", subtype="ULAW")
    theirs = np.frombuffer((tmp_path / "b.raw").read_bytes(), np.uint8)
    ours = np.frombuffer(speech.ulaw(wave), np.uint8)
    # the two may round a value on a boundary to either side
    assert np.mean(ours == theirs) > 0.97


def test_a_recording_has_its_pieces_where_they_belong():
    wave = speech.recording([(0.5, speech.tone(0.5, 300)), (2.9, speech.tone(0.5, 700))], 3.0)
    assert len(wave) == 48000
    assert not wave[:8000].any()
    assert abs(speech.loudest_hz(wave[8000:16000]) - 300) < 5
    assert wave[-100:].any()
