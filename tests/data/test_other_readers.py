"""What stage 1 writes is read by another reader of Kaldi's files: kaldiio, from its own authors."""

from pathlib import Path

import kaldiio
import numpy as np
import pytest
import soundfile

from espnet_blora.bin import prepare_corpus

RATE = 16000


@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_kaldiio_reads_the_same_samples(tmp_path, monkeypatch, ending):
    monkeypatch.chdir(tmp_path)
    waves = {}
    for number in range(12):
        wave = np.random.default_rng(number).integers(-9000, 9000, RATE + number, dtype=np.int16)
        path = tmp_path / f"speech/talk{number:02}.{ending}"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, wave, RATE)
        path.with_suffix(".txt").write_text(f"hello number {number}\n")
        waves[path.stem] = wave
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
        scaled = np.round(samples * 32768) if samples.dtype.kind == "f" else samples
        np.testing.assert_array_equal(scaled, waves[stem])
