"""The sweep's command line: a user's mistake is one line and status 1."""

import numpy as np
import pytest
import soundfile

from espnet_blora.bin import sweep
from espnet_blora.decoding.beam import SearchOptions
from espnet_blora.whisper.vocabulary import Vocabulary


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--scales", "0 a"], "sweep: error: --scales '0 a': numbers with blanks between"),
        (["--scales", "0 -1"], "at least one finite number >= 0 is needed"),
        ([], "sweep: error: {exp}/config.yaml: no such file; train first"),
    ],
)
def test_mistakes(tmp_path, mistake, extra, message):
    exp = tmp_path / "asr_x"
    said = mistake(
        "sweep", sweep.main, ["--asr_exp", str(exp), "--sets", "x", "--threads", "1", *extra]
    )
    assert message.format(exp=exp) in said


def test_the_search_is_the_recipes(tmp_path):
    assert sweep.search_options(None) == SearchOptions()
    conf = tmp_path / "decode.yaml"
    conf.write_text("beam_size: 3\nmaxlenratio: 0.2\nctc_weight: 0.0\nnbest: 1\n")
    assert sweep.search_options(conf) == SearchOptions(3, maxlenratio=0.2)
    assert sweep.search_options(conf, 1).beam_size == 1
    conf.write_text("maxlenratio: much\n")
    with pytest.raises(ValueError, match=r"decode\.yaml: .*'much'.*numbers are needed"):
        sweep.search_options(conf)


def test_a_part_of_a_set_is_spread_over_it(tmp_path):
    for uid in "dbca":
        soundfile.write(tmp_path / f"{uid}.wav", np.full(400, 0.1), 16000)
    ids = "dbca"
    (tmp_path / "wav.scp").write_text("".join(f"{u} {tmp_path / u}.wav\n" for u in ids))
    (tmp_path / "text").write_text("".join(f"{u} text of {u}\n" for u in ids))
    waves, texts = sweep.read_waves(tmp_path, 2)
    assert texts == {"a": "text of a", "c": "text of c"} and len(waves["a"]) == 400
    for most in (None, 4, 9):
        assert list(sweep.read_waves(tmp_path, most)[0]) == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="0 utterances of each set"):
        sweep.read_waves(tmp_path, 0)
    (tmp_path / "utt2lang").write_text("a en\nb zh\nd en\n")
    with pytest.raises(ValueError, match="lacks 1 utterances of wav.scp, first c; add the line"):
        sweep.read_set(tmp_path, Vocabulary.of(51865))
    (tmp_path / "text").write_text("a only\n")
    with pytest.raises(ValueError, match="do not hold the same utterances, first b"):
        sweep.read_waves(tmp_path)
