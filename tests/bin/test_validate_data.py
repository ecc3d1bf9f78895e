"""The program that checks data directories says what it found, and fails when one is bad."""

import numpy as np
import pytest

from espnet_blora.bin import validate_data
from espnet_blora.data import audio, kaldi
from espnet_blora.utils.keyed import write_keyed


@pytest.fixture
def directory(tmp_path):
    audio.write(tmp_path / "u1.wav", np.zeros(16000, dtype=np.int16))
    wav = {"u1": str(tmp_path / "u1.wav")}
    kaldi.write_data_dir(tmp_path / "d", wav, {"u1": "hi"}, {"u1": "u"}, {"u1": "en"})
    return tmp_path / "d"


def run(*arguments):
    return validate_data.main(list(map(str, arguments)))


def test_good_and_bad(directory, caplog):
    caplog.set_level("INFO")
    assert run(directory) == 0
    assert "1 utterances (1 en), 1 speakers" in caplog.text
    assert run(directory, "--max_seconds", "0.5") == 1
    assert "longer than 0.5 s" in caplog.text
    assert run(directory, "--mono_16k") == 0


def test_every_directory_is_looked_at(directory, tmp_path, caplog):
    caplog.set_level("INFO")
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty", directory) == 1
    assert "empty/wav.scp" in caplog.text
    assert f"{directory}: 1 utterances" in caplog.text


def test_a_directory_that_is_not_there_is_a_mistake(directory, tmp_path, capsys):
    assert run(directory, tmp_path / "nosuch") == 2
    assert str(tmp_path / "nosuch") in capsys.readouterr().err


def test_audio_can_be_left_out(directory, tmp_path):
    (tmp_path / "u1.wav").unlink()
    assert run(directory) == 1
    assert run(directory, "--no_audio") == 0


def test_languages_are_whispers(directory, caplog):
    write_keyed(directory / "utt2lang", {"u1": "eng"})
    assert run(directory) == 1
    assert "'u1' has language 'eng'; allowed: af, am, ar" in caplog.text
    write_keyed(directory / "utt2lang", {"u1": "rw"})
    assert run(directory, "--new_languages", "kab") == 1
    assert run(directory, "--new_languages", "kab,rw") == 0
    assert run(directory, "--new_languages", "kab rw") == 0
    (directory / "utt2lang").unlink()
    assert run(directory) == 1
    assert "awk" in caplog.text
