"""Another reader of Kaldi's files, kaldiio by its own authors, reads what stages 1 and 3 write."""

import subprocess
import sys
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import soundfile

from espnet_blora.bin import prepare_corpus

RATE = 16000
STAGE_3 = (
    Path(__file__).resolve().parents[2] / "egs2/mini_cs/asr1/pyscripts/audio/format_wav_scp.py"
)


def noise(number):
    generator = np.random.default_rng(number)
    return generator.integers(-9000, 9000, RATE + number, dtype=np.int16)


def as_int16(samples):
    return np.round(samples * 32768) if samples.dtype.kind == "f" else samples


@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_kaldiio_reads_the_same_samples(tmp_path, monkeypatch, ending):
    monkeypatch.chdir(tmp_path)
    waves = {}
    for number in range(12):
        path = tmp_path / f"speech/talk{number:02}.{ending}"
        path.parent.mkdir(exist_ok=True)
        waves[path.stem] = noise(number)
        soundfile.write(path, waves[path.stem], RATE)
        path.with_suffix(".txt").write_text(f"hello number {number}\n")
    words = ("custom", "--corpus_dir", "speech", "--sets", "train valid test", "--data_dir", "data")
    options = ("--corpus_option", "language=en", "--clips_dir", "downloads")
    assert prepare_corpus.main([*words, *options]) == 0

    found = {}
    for name in ("train", "valid", "test"):
        scp = kaldiio.load_scp(f"data/{name}/wav.scp")
        texts = Path(f"data/{name}/text").read_text(encoding="utf-8")
        assert list(scp) == [line.split()[0] for line in texts.splitlines()]
        for utterance, (rate, samples) in scp.items():
            assert rate == RATE
            found[utterance.rpartition("-")[2]] = samples
    assert found.keys() == waves.keys()
    for stem, samples in found.items():
        np.testing.assert_array_equal(as_int16(samples), waves[stem])


def test_kaldiio_reads_the_arks_of_stage_3(tmp_path):
    """ESPnet's own script, as `run.sh --audio_format flac.ark` calls it."""
    lines = []
    for number in range(3):
        path = tmp_path / f"u{number}.flac"
        soundfile.write(path, noise(number), RATE)
        lines.append(f"u{number} {path}\n")
    (tmp_path / "wav.scp").write_text("".join(lines))
    command = [sys.executable, str(STAGE_3), "--audio-format", "flac.ark"]
    subprocess.run([*command, str(tmp_path / "wav.scp"), str(tmp_path / "dump")], check=True)
    found = kaldiio.load_scp(str(tmp_path / "dump/wav.scp"))
    assert list(found) == ["u0", "u1", "u2"] and (tmp_path / "dump/data_wav.ark").is_file()
    for number, (rate, samples) in enumerate(found.values()):
        assert rate == RATE
        np.testing.assert_array_equal(as_int16(samples), noise(number))
