"""The program: folders and files, what calibrate reads, and mistakes in one line."""

import numpy as np
import pytest
import soundfile

from espnet_blora.bin import confidence
from espnet_blora.bin._common import read_options
from espnet_blora.decoding import recogniser as opening
from espnet_blora.scoring.calibration.words import label_tokens, read_confidences
from tests.decoding.small import recogniser, utterances


@pytest.fixture
def dump(tmp_path):
    waves, _ = utterances()
    folder = tmp_path / "dump" / "some"
    folder.mkdir(parents=True)
    for uid, wave in waves.items():
        soundfile.write(folder / f"{uid}.wav", wave.numpy(), 16000)
    for name, value in {"wav.scp": "{d}/{u}.wav", "text": "go 去", "utt2lang": "zh"}.items():
        lines = [f"{uid} {value.format(u=uid, d=folder)}\n" for uid in sorted(waves)]
        (folder / name).write_text("".join(lines), encoding="utf-8")
    return folder.parent


@pytest.fixture
def program(tmp_path, dump, monkeypatch):
    """Run it over a small model in the place of an experiment's; return what was asked for."""
    asked = []

    def opened(*arguments, merge):
        asked.append(merge)
        return recogniser(None if merge else "blora")

    monkeypatch.setattr(opening, "open_experiment", opened)

    def call(*options):
        always = ["--asr_exp", str(tmp_path / "exp"), "--dump", str(dump), "--sets", "some"]
        status = confidence.main([*always, "--threads", "1", "--batch_size", "3", *options])
        return status or asked[-1]

    return call


def test_files_that_calibrate_reads(program, tmp_path, dump):
    conf = tmp_path / "decode.yaml"
    conf.write_text("beam_size: 2\nmaxlenratio: -6\nctc_weight: 0.0\n")
    assert program("--inference_config", str(conf)) is True
    more = ("--samples", "2", "--spread", "2", "--temperature", "1 2.5", "--word_confidence", "min")
    assert program("--inference_config", str(conf), *more) is False
    root = tmp_path / "exp" / "confidence"
    names = ["mean", "samples2_spread2_min", "samples2_spread2_min_temperature2.5"]
    assert sorted(folder.name for folder in root.iterdir()) == names
    references = dict.fromkeys("abcd", "go 去")
    for name in names:
        words = read_confidences(root / name / "some" / "words.jsonl")
        lines = (root / name / "some" / "text").read_text("utf-8").splitlines()
        assert [f"{uid} {words[uid].text}".strip() for uid in sorted(words)] == lines
        assert sorted(words) == list("abcd")
        marked = label_tokens(references, words)
        assert len(marked.owner) > 0 and np.isfinite(marked.confidence).all()
        doubt = [words[uid].uncertainty["model"] for uid in words]
        assert all(v == 0 for v in doubt) if name == "mean" else all(v > 0 for v in doubt)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--temperature", "warm"], "--temperature 'warm': numbers from 0 on"),
        (["--temperature", "1 -2"], "--temperature '1 -2': numbers from 0 on"),
        (["--temperature", "0 1"], "--temperature 0: "),
        (["--beam_size", "0"], "beam_size is 0"),
        (["--samples", "-1"], "samples is -1"),
        (["--sets", "none"], "none"),
        (["--inference_config", "nowhere.yaml"], "nowhere.yaml: no such configuration"),
    ],
)
def test_mistakes(program, mistake, extra, message):
    assert message in mistake("confidence", program, *extra)


def test_a_yaml_with_words_for_numbers_and_with_a_language_model(
    tmp_path, mistake, program, caplog
):
    conf = tmp_path / "decode.yaml"
    conf.write_text("beam_size: many\n")
    said = mistake("confidence", program, "--inference_config", str(conf))
    assert "decode.yaml: beam_size is 'many'" in said
    conf.write_text("lm_weight: 0.3\nbeam_size: 4\n")
    more = ["--asr_exp", "x", "--sets", "y", "--inference_config", str(conf), "--beam_size", "2"]
    options = read_options(confidence.get_parser().parse_args(more))
    assert options.beam_size == 2 and "lm_weight: this search has none" in caplog.text


def test_an_experiment_that_is_not_there(tmp_path, mistake):
    exp = str(tmp_path / "exp")
    (tmp_path / "x").mkdir()
    words = ["--asr_exp", exp, "--dump", str(tmp_path), "--sets", "x"]
    said = mistake("confidence", confidence.main, words)
    assert exp in said
