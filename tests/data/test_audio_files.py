"""A file for transcription is read whole and sound, or an error names it and says what to do."""

import gc
import io
import os
import re
import shutil
import subprocess
import sys
import threading
from types import SimpleNamespace

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
    levels = [10 * np.log10(np.mean(frame**2)) for frame in wave.reshape(-1, audio.FRAME)]
    np.testing.assert_allclose(found.loudness, levels, atol=0.05)  # also across blocks


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


def test_what_is_drowned_in_the_channels_mean_is_taken_alone(tmp_path):
    """Speech in the centre of 5.1, and stereo of which one channel is inverted."""
    path, silent = tmp_path / "a.wav", np.zeros_like(NOISE)
    for channels in ([silent, silent, NOISE, silent, silent, silent], [NOISE, -NOISE]):
        soundfile.write(path, np.stack(channels, axis=1), RATE, subtype="FLOAT")
        found = AudioFile.open(path)
        np.testing.assert_allclose(np.abs(whole(found)), np.abs(NOISE), atol=1e-6)
        mean, alone = found.notes
        assert mean.endswith("their mean is taken") and alone.startswith(
            "where that is 12 dB softer"
        )
        np.testing.assert_array_equal(audio.read(path), whole(found))
    soundfile.write(path, np.stack([NOISE, silent, 0.5 * NOISE], axis=1), RATE, subtype="FLOAT")
    found = AudioFile.open(path)
    np.testing.assert_allclose(whole(found), 0.5 * NOISE, atol=1e-6)
    assert found.notes == ("3 channels, their mean is taken",)


def test_integers_stored_as_floats_are_noted(tmp_path):
    soundfile.write(tmp_path / "a.wav", 32768 * NOISE, RATE, subtype="FLOAT")
    (note,) = AudioFile.open(tmp_path / "a.wav").notes
    assert f"{np.abs(32768 * NOISE).max():g}" in note


FFMPEG = """#!{python}
import sys, wave
import av
arguments = sys.argv[1:]
given = arguments[arguments.index("-i") + 1].removeprefix("file:")
rate = int(arguments[arguments.index("-ar") + 1])
try:
    with av.open(given) as source, wave.open(arguments[-1], "wb") as target:
        channels = source.streams.audio[0].codec_context.channels
        target.setparams((channels, 2, rate, 0, "NONE", ""))
        resampler = av.AudioResampler("s16", source.streams.audio[0].layout, rate)
        for frame in source.decode(audio=0):
            for part in resampler.resample(frame):
                target.writeframes(part.to_ndarray().tobytes())
        for part in resampler.resample(None):
            target.writeframes(part.to_ndarray().tobytes())
except av.FFmpegError as error:
    sys.exit(f"[in#0] Error opening input: {{error.strerror}}")
"""
"""Stands for the program, with the libraries of the program (PyAV comes with ESPnet's reader)."""


@pytest.fixture(params=["stand-in", "real"])
def ffmpeg(request, tmp_path, monkeypatch):
    pytest.importorskip("av")  # writes the files
    if request.param == "real":
        if shutil.which("ffmpeg") is None:
            pytest.skip("ffmpeg is not installed")
        return
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "ffmpeg"
    program.write_text(FFMPEG.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))


def coded(path, codec, wave, channels=1):
    """Write a wave (samples,) with PyAV."""
    import av

    with av.open(str(path), "w") as target:
        stream = target.add_stream(codec, rate=48000)
        stream.bit_rate = 64000
        stream.layout = "mono" if channels == 1 else "stereo"
        frames = np.repeat((wave * 32767).astype(np.int16), channels)[None]
        frame = av.AudioFrame.from_ndarray(frames, "s16", stream.layout.name)
        frame.rate = RATE
        resampler = av.AudioResampler(stream.format.name, stream.layout, 48000, 960)
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            target.mux(stream.encode(part))
        target.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("name", "codec", "channels"),
    [("a.m4a", "aac", 2), ("a.webm", "libopus", 1), ("a.wma", "wmav2", 1), ("a.aac", "aac", 1)],
)
def test_ffmpeg_reads_what_soundfile_cannot(tmp_path, ffmpeg, name, codec, channels):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)
    coded(tmp_path / name, codec, tone, channels)
    found = AudioFile.open(tmp_path / name)
    wave = whole(found)
    assert abs(found.samples - 2 * RATE) < RATE / 5 and "decoded by ffmpeg" in found.notes
    spectrum = np.abs(np.fft.rfft(wave[: RATE // 2 * 2]))
    assert abs(spectrum.argmax() - 440 * len(wave[: RATE // 2 * 2]) / RATE) < 4
    assert 0.3 < np.abs(wave[RATE // 2 : RATE]).max() < 0.6
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 3])
    try:  # as far as it goes, or not at all
        samples = AudioFile.open(tmp_path / name).samples
    except ValueError as error:
        samples = str(error).startswith(f"{tmp_path / name}: ") and 0
    assert samples is not False and samples < found.samples


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
@pytest.mark.parametrize(
    ("name", "options", "apart"),
    [
        ("a.m4a", "", 0),
        ("a.webm", "-c:a libopus", 0),
        ("a.wma", "", 0),
        ("two.m4a", "-ac 2", 1 / 32768),
        ("video.mkv", "-f lavfi -i color=c=red:s=64x64:d=2 -shortest", 0),
    ],
)
def test_the_samples_are_those_of_openais_whisper(tmp_path, monkeypatch, name, options, apart):
    import whisper

    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)
    soundfile.write(tmp_path / "tone.wav", tone, RATE)
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(tmp_path / "tone.wav")]
    subprocess.run([*command, *options.split(), str(tmp_path / name)], check=True)
    theirs = whisper.load_audio(str(tmp_path / name))
    for path in (tmp_path / name, "-"):
        with (tmp_path / name).open("rb") as source:
            monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=source))
            ours = whole(AudioFile.open(path))
        assert ours.shape == theirs.shape and np.abs(ours - theirs).max() <= apart, path


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_what_ffmpeg_says_of_a_damaged_file(tmp_path):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(20 * RATE) / RATE)
    for name, codec in (("a.m4a", "aac"), ("a.webm", "libopus")):
        coded(tmp_path / name, codec, tone)
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: 2 * len(data) // 3])
    with pytest.raises(ValueError, match=r"a\.m4a: .*nor by ffmpeg \(moov atom not found\)"):
        AudioFile.open(tmp_path / "a.m4a")
    found = AudioFile.open(tmp_path / "a.webm")
    assert 10 * RATE < found.samples < 15 * RATE
    assert any("File ended prematurely; what is damaged or cut off" in n for n in found.notes)


def test_what_nothing_reads(tmp_path, ffmpeg):
    (tmp_path / "text.wav").write_text("no audio")
    with pytest.raises(ValueError, match=r"text\.wav: .*soundfile nor by ffmpeg \(.*Inv"):
        AudioFile.open(tmp_path / "text.wav")
    (tmp_path / "empty.m4a").touch()
    with pytest.raises(ValueError, match=r"empty\.m4a: "):
        AudioFile.open(tmp_path / "empty.m4a")


def test_without_ffmpeg_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "a.webm").write_bytes(b"\x1aE\xdf\xa3 and so on")
    with pytest.raises(ValueError, match=r"a\.webm: .*where ffmpeg is.*ffmpeg -i a\.webm"):
        AudioFile.open(tmp_path / "a.webm")


@pytest.mark.parametrize("kind", ["pipe", "standard input"])
def test_what_comes_through_a_pipe_is_read(tmp_path, monkeypatch, kind):
    wave = np.tile(NOISE, 15)
    data = encoded("wav", wave)
    if kind == "pipe":
        path = tmp_path / "pipe.wav"
        os.mkfifo(path)
        writer = threading.Thread(target=path.write_bytes, args=(data,))
        writer.start()
        found = AudioFile.open(path)
        writer.join()
    else:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        found = AudioFile.open("-")
    temporary = found.path
    assert found.samples == len(wave) and temporary.exists()
    np.testing.assert_allclose(whole(found), wave, atol=1e-4)
    del found
    gc.collect()
    assert not temporary.exists()


def test_errors_of_a_pipe_name_what_was_given(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"no audio")))
    with pytest.raises(ValueError, match=r"^-: cannot be read as audio"):
        AudioFile.open("-")
