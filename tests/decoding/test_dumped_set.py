"""Dumped sets: as much of them as is asked for, with languages, or an error that names the gap."""

import numpy as np
import pytest
import soundfile

from espnet_blora.decoding.dumped_set import read_set
from espnet_blora.whisper.vocabulary import Vocabulary


def test_a_part_of_a_set_is_spread_over_it(tmp_path):
    for uid in "dbca":
        soundfile.write(tmp_path / f"{uid}.wav", np.full(400, 0.1), 16000)
    ids = "dbca"
    (tmp_path / "wav.scp").write_text("".join(f"{u} {tmp_path / u}.wav\n" for u in ids))
    (tmp_path / "text").write_text("".join(f"{u} text of {u}\n" for u in ids))
    (tmp_path / "utt2lang").write_text("a en\nb zh\nc en\nd en\ne en\n")
    vocabulary = Vocabulary.of(51865)
    waves, prompts, texts = read_set(tmp_path, vocabulary, 2)
    assert prompts == dict.fromkeys("ac", vocabulary.prompt("en"))
    assert texts == {"a": "text of a", "c": "text of c"} and len(waves["a"]) == 400
    for most in (None, 4, 9):
        assert list(read_set(tmp_path, vocabulary, most)[0]) == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="0 utterances of each set"):
        read_set(tmp_path, vocabulary, 0)
    (tmp_path / "utt2lang").write_text("a en\nb zh\nd en\n")
    with pytest.raises(ValueError, match="lacks 1 utterances of wav.scp, first c; add the line"):
        read_set(tmp_path, vocabulary)
    (tmp_path / "text").write_text("a only\n")
    with pytest.raises(ValueError, match="do not hold the same utterances, first b"):
        read_set(tmp_path, vocabulary)
