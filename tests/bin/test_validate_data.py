"""The program that checks data directories says what it found, and fails when one is bad."""

import numpy as np
import pytest

from espnet_blora.bin import validate_data
from espnet_blora.data import audio, kaldi


@pytest.fixture
def directory(tmp_path):
    audio.write(tmp_path / "u1.wav", np.zeros(16000, dtype=np.int16))
    wav = {"u1": str(tmp_path / "u1.wav")}
    kaldi.write_data_dir(tmp_path / "d", wav, {"u1": "hi"}, {"u1": "u"}, {"u1": "en"})
    return tmp_path / "d"


def run(*arguments):
    with pytest.raises(SystemExit) as caught:
        validate_data.main(list(map(str, arguments)))
    return caught.value.code


def test_good_and_bad(directory, caplog):
    caplog.set_level("INFO")
    assert run(directory) == 0
    assert "1 utterances (1 en), 1 speakers" in caplog.text
    assert run(directory, "--max_seconds", "0.5") == 1
    assert "longer than 0.5 s" in caplog.text
    assert run(directory, "--mono_16k") == 0


def test_every_directory_is_looked_at(directory, tmp_path, caplog):
    caplog.set_level("INFO")
    assert run(tmp_path / "nosuch", directory) == 1
    assert "nosuch: no such data directory" in caplog.text
    assert f"{directory}: 1 utterances" in caplog.text


def test_audio_can_be_left_out(directory, tmp_path):
    (tmp_path / "u1.wav").unlink()
    assert run(directory) == 1
    assert run(directory, "--no_audio") == 0


def test_languages_are_whispers(directory, caplog):
    kaldi.write_keyed(directory / "utt2lang", {"u1": "eng"})
    assert run(directory) == 1
    assert "'u1' has language 'eng'; allowed: af, am, ar" in caplog.text
    kaldi.write_keyed(directory / "utt2lang", {"u1": "rw"})
    assert run(directory, "--new_languages", "kab") == 1
    assert run(directory, "--new_languages", "kab,rw") == 0
    (directory / "utt2lang").unlink()
    assert run(directory) == 1
    assert "awk" in caplog.text
