"""Stage 12 by our search: the files that ESPnet's program writes, and the same errors."""

import logging
import re
from argparse import Namespace

import pytest
import soundfile
import yaml
from espnet2.bin import asr_inference

from espnet_blora import plugin
from espnet_blora.plugin import batched_inference
from espnet_blora.plugin.resume import only_run
from espnet_blora.plugin.settings import SCALE, SEARCH, WHISPER
from espnet_blora.whisper.vocabulary import Vocabulary
from tests.plugin.stage12 import LANGUAGES, SAMPLES, write_data

FILES = ("text", "token", "token_int", "score")


@pytest.fixture
def words(experiment, data, tmp_path, monkeypatch):
    """Command lines of `asr_inference`, as words, for a set and an output folder."""
    plugin.register()
    monkeypatch.setenv(WHISPER, "large-v3")  # config.yaml decides, not the launcher
    monkeypatch.delenv(SCALE, raising=False)
    monkeypatch.delenv(SEARCH, raising=False)
    monkeypatch.setattr(yaml, "safe_load", lambda file: yaml.load(file, Loader=yaml.CSafeLoader))

    def line(output, *extra, folder=data):
        command = [
            *("--output_dir", tmp_path / output, "--num_workers", 0),
            *("--key_file", folder / "wav.scp"),
            *("--data_path_and_name_and_type", f"{folder / 'wav.scp'},speech,sound"),
            *("--asr_train_config", experiment / "config.yaml"),
            *("--asr_model_file", experiment / "valid.acc.best.pth"),
            *("--ctc_weight", 0.0, "--maxlenratio", -8, *extra),
        ]
        return [str(word) for word in command]

    return line


def ours(line):
    options = batched_inference.takes(line)
    assert options is not None
    batched_inference.inference(options)


def read(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split(" ", 1) for line in lines)


@pytest.mark.parametrize("beam", [1, 3])
def test_the_files_are_espnets(words, tmp_path, beam):
    more = ("--beam_size", beam, "--nbest", beam, "--batch_size", 4)
    asr_inference.main(words("theirs", *more))
    ours(words("ours", *more))
    for n in range(1, beam + 1):
        for name in FILES:
            wanted, found = (
                read(tmp_path / who / f"{n}best_recog" / name) for who in ("theirs", "ours")
            )
            assert list(found) == list(SAMPLES)  # those of 30 samples and of none, too
            if name != "score":
                assert found == wanted
                continue
            for uid, value in found.items():
                one, other = (float(v.removeprefix("tensor(")[:-1]) for v in (value, wanted[uid]))
                assert one == pytest.approx(other, abs=1e-2)  # of logits up to a hundred
    best = read(tmp_path / "ours" / "1best_recog" / "text")
    assert len(set(best.values())) >= 5  # the model does listen


def test_the_training_s_whisper_language_counts_where_there_is_no_utt2lang(tmp_path):
    options = Namespace(
        data_path_and_name_and_type=[(str(tmp_path / "wav.scp"), "speech", "sound")]
    )
    recogniser = Namespace(vocabulary=Vocabulary.of(51865), language="zh")
    assert batched_inference._Job(options, recogniser, {}).languages["a"] == "zh"
    recogniser.language = None
    with pytest.raises(FileNotFoundError, match="utt2lang"):
        batched_inference._Job(options, recogniser, {})


def test_the_log_lines_that_stage_12_counts(words, caplog):
    with caplog.at_level(logging.INFO):
        ours(words("out", "--beam_size", 1, "--batch_size", 3))
    log = [record.getMessage() for record in caplog.records]
    lengths = [int(m[1]) for line in log if (m := re.match(r"speech length: (\d+)$", line))]
    assert lengths == list(SAMPLES.values())
    assert sum(line.startswith("best hypo") for line in log) == len(SAMPLES)
    times = [r.created for r in caplog.records if r.getMessage().startswith(("speech", "best"))]
    assert times == sorted(times)
    assert all(abs(r.msecs - r.created % 1 * 1000) < 1.5 for r in caplog.records)


def test_long_audio_is_decoded_in_pieces(words, tmp_path, caplog):
    folder = write_data(
        tmp_path / "long", {"long": 600000, "short": 8000}, {"long": "en", "short": "zh"}
    )
    with caplog.at_level(logging.INFO):
        ours(words("out", "--beam_size", 1, "--batch_size", 4, folder=folder))
    text = read(tmp_path / "out" / "1best_recog" / "text")
    assert set(text) == {"long", "short"}
    more = ("--beam_size", 1, "--batch_size", 1)
    asr_inference.main(words("theirs", *more, folder=folder))
    for name in ("text", "token_int"):
        assert read(tmp_path / "theirs" / "1best_recog" / name) == read(
            tmp_path / "out" / "1best_recog" / name
        )
    ids = read(tmp_path / "out" / "1best_recog" / "token_int")["long"].split()
    assert 8 < len(ids) <= 16  # two pieces of at most eight tokens
    assert "utterance long lasts 37.5 s: decoded in 2 pieces" in caplog.text


def test_each_utterance_that_cannot_be_read_is_named_and_the_others_decoded(words, tmp_path):
    names = ("a", "b", "c", "d", "e")
    folder = write_data(tmp_path / "bad", dict.fromkeys(names, 4000), dict.fromkeys(names, "en"))
    (folder / "b.wav").write_text("not audio")
    (folder / "c.wav").unlink()
    soundfile.write(folder / "d.wav", [[0.1, 0.2]] * 4000, 16000)
    with pytest.raises(ValueError, match="3 of 5 utterances could not be decoded") as caught:
        ours(words("out", "--beam_size", 1, "--batch_size", 2, folder=folder))
    for fragment in ("'b': ", "cannot be read as audio", "'c': ", "no such", "'d': ", "2 channels"):
        assert fragment in str(caught.value)
    assert set(read(tmp_path / "out" / "1best_recog" / "text")) == {"a", "e"}


def test_a_missing_language_names_the_utterance(words, tmp_path):
    gap = {uid: code for uid, code in LANGUAGES.items() if uid != "u4"}
    folder = write_data(tmp_path / "gap", SAMPLES, gap)
    with pytest.raises(ValueError, match=r"utterance 'u4' has no language .*gap/utt2lang"):
        ours(words("out", "--beam_size", 1, folder=folder))


def test_keys_twice_unknown_keys_and_a_folder_in_use(words, data, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("u1\nu2\nu1\n")
    with pytest.raises(ValueError, match="listed twice: u1"):
        ours(words("out", "--key_file", keys))
    keys.write_text("u1\nu77\n")
    with pytest.raises(ValueError, match=r"lacks 1 utterances of .*keys: u77"):
        ours(words("out", "--key_file", keys))
    with only_run(tmp_path / "out"), pytest.raises(ValueError, match="is in use by another run"):
        ours(words("out"))


def test_who_decodes(words, monkeypatch, caplog):
    assert batched_inference.takes(words("out")) is not None
    with caplog.at_level(logging.INFO):
        assert batched_inference.takes(words("out", "--streaming", "true")) is None
    assert "ESPnet's own search: --streaming is given" in caplog.text
    with pytest.raises(ValueError, match="rule: only our own search knows that.*--streaming"):
        batched_inference.takes(words("out", "--streaming", "true", "--rule", "whisper"))
    monkeypatch.setenv(SEARCH, "espnet")
    assert batched_inference.takes(words("out")) is None
    monkeypatch.setenv(SEARCH, "theirs")
    with pytest.raises(ValueError, match="'theirs'"):
        batched_inference.takes(words("out"))


def test_more_of_openai_whispers_search_in_the_yaml(words, tmp_path):
    more = ("--rule", "whisper", "--beam_size", 2, "--max_tokens", 6, "--no_repeat_ngram_size", 1)
    ours(words("out", *more))
    ids = read(tmp_path / "out" / "1best_recog" / "token_int")
    for row in ids.values():
        assert len(row.split()) <= 6
        assert len(set(row.split())) == len(row.split())  # no token twice
