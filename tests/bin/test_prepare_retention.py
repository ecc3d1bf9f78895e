"""Retention sets of other corpora: those that are at hand are prepared, the others named."""

import logging

import pytest

from espnet_blora.bin.prepare_retention import main
from espnet_blora.data import kaldi
from tests.data.layouts import commonvoice, librispeech


@pytest.fixture
def places(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    for name in ("LIBRISPEECH", "AISHELL", "COMMONVOICE"):
        monkeypatch.delenv(name, raising=False)
    made = librispeech.make(tmp_path / "libri", utterances=2, sets=("test_clean",))
    monkeypatch.setenv("LIBRISPEECH", str(made.root))
    folders = ["--data_dir", str(tmp_path / "data"), "--clips_dir", str(tmp_path / "clips")]
    return tmp_path, [*folders, "--max_lost", "1"]  # the copies lack an utterance on purpose


def test_a_set_without_all_of_its_audio_is_refused(places, capsys):
    top, folders = places
    assert main(["librispeech_test_clean", *folders[:-2]]) == 2
    assert "2 of 3 utterances" in (error := capsys.readouterr().err)
    assert "--max_lost" in error
    assert not (top / "data").exists()


def test_what_is_there_is_prepared_and_the_rest_is_named(places, caplog, capsys):
    top, folders = places
    assert main(["librispeech_test_clean", "aishell_test", *folders]) == 0
    assert kaldi.validate(top / "data" / "librispeech_test_clean", {"en"}).utterances == 2
    assert "left out: aishell_test: AISHELL is not set" in caplog.text
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert "test_clean" in capsys.readouterr().out
    assert not (top / "data" / "aishell_test").exists()


def test_a_folder_that_holds_something_else_is_a_warning(places, monkeypatch, caplog):
    top, folders = places
    monkeypatch.setenv("AISHELL", str(top))
    assert main(["aishell_test", *folders]) == 0
    (warning,) = [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert f"aishell_test: AISHELL={top}" in warning.getMessage()


def test_a_language_that_the_release_lacks_is_left_out(places, monkeypatch, caplog):
    top, folders = places
    made = commonvoice.make(top / "cv", utterances=2)
    monkeypatch.setenv("COMMONVOICE", str(made.root))
    assert main(["commonvoice_xx_test", "librispeech_test_clean", *folders]) == 0
    assert "left out: commonvoice_xx_test" in caplog.text
    assert (top / "data" / "librispeech_test_clean" / "wav.scp").is_file()


def test_what_was_prepared_before_is_said_to_stay(places, monkeypatch, caplog):
    _, folders = places
    assert main(["librispeech_test_clean", *folders]) == 0
    monkeypatch.delenv("LIBRISPEECH")
    assert main(["librispeech_test_clean", *folders]) == 0
    assert "kept as it was prepared before: librispeech_test_clean" in caplog.text


def test_names_are_checked_before_anything_is_prepared(places, capsys):
    top, folders = places
    assert main(["librispeech_test_clean", "librispeech_tset", *folders]) == 2
    assert "librispeech has the sets" in capsys.readouterr().err
    assert not (top / "data").exists()
    assert main(["--check", "librispeech_test_clean", *folders]) == 0
    assert not (top / "data").exists()
