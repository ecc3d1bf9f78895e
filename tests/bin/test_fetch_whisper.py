"""Fetching a published Whisper: once, checked, and in plain words where it fails."""

import hashlib

import pytest
import whisper

from espnet_blora.bin import fetch_whisper


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache in which "tiny" is there and right."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    digest = hashlib.sha256(b"weights").hexdigest()
    monkeypatch.setitem(whisper._MODELS, "tiny", f"https://nowhere.invalid/{digest}/tiny.pt")
    (tmp_path / "whisper").mkdir()
    (tmp_path / "whisper" / "tiny.pt").write_bytes(b"weights")
    return tmp_path / "whisper"


def test_what_is_there_is_not_fetched_again(cache, capsys):
    assert fetch_whisper.main(["tiny"]) == 0
    assert str(cache / "tiny.pt") in capsys.readouterr().out


def test_a_damaged_file_is_fetched_and_without_a_network_that_is_said(cache, mistake):
    (cache / "tiny.pt").write_bytes(b"half")
    with pytest.warns(UserWarning, match="checksum"):
        message = mistake("fetch_whisper", fetch_whisper.main, ["tiny"])
    for part in ("network", str(cache), "https://nowhere.invalid/", "--whisper FILE"):
        assert part in message


def test_an_unknown_size_names_those_there_are(cache, mistake):
    message = mistake("fetch_whisper", fetch_whisper.main, ["hugee"])
    assert "'hugee'" in message and "large-v3-turbo" in message
