"""ESPnet's own asr_inference on a random Whisper: any batch size, each language at its own row."""

import logging
import math
import re

import pytest
import torch
import yaml
from espnet2.bin import asr_inference

from espnet_blora import plugin
from espnet_blora.plugin import espnet_inference
from espnet_blora.plugin.resume import only_run
from espnet_blora.plugin.settings import SCALE, WHISPER
from espnet_blora.plugin.whisper_parts import WhisperDecoder, WhisperEncoder
from tests.plugin.stage12 import LANGUAGES, LAYOUT, SAMPLES, write_data


@pytest.fixture(autouse=True, scope="module")
def plugged_in():
    plugin.register()


@pytest.fixture
def decode(experiment, data, tmp_path, monkeypatch, caplog):
    """Run the program and return (texts by id, its log)."""
    monkeypatch.setenv(WHISPER, "large-v3")  # config.yaml decides, not the launcher
    monkeypatch.delenv(SCALE, raising=False)
    monkeypatch.setattr(yaml, "safe_load", lambda file: yaml.load(file, Loader=yaml.CSafeLoader))
    runs = []

    def run(*extra, folder=data, keys=None):
        output = tmp_path / f"run{len(runs)}"
        runs.append(output)
        key_file = tmp_path / "keys.scp"
        key_file.write_text(keys if keys is not None else (folder / "wav.scp").read_text())
        caplog.clear()
        command = [
            *("--output_dir", output, "--num_workers", 0, "--key_file", key_file),
            *("--data_path_and_name_and_type", f"{folder / 'wav.scp'},speech,sound"),
            *("--asr_train_config", experiment / "config.yaml"),
            *("--asr_model_file", experiment / "valid.acc.best.pth"),
            *("--ctc_weight", 0.0, "--beam_size", 2, "--maxlenratio", -8, *extra),
        ]
        with caplog.at_level(logging.INFO):
            asr_inference.main([str(word) for word in command])
        best = output / "1best_recog"
        texts = dict(line.split(" ", 1) for line in (best / "text").read_text().splitlines())
        return texts, [record.getMessage() for record in caplog.records]

    return run


def markers(log):
    """Count what stage 12's calculate_rtf.py counts."""
    return [sum(line.startswith(m) for line in log) for m in ("speech length: ", "best hypo")]


def test_every_batch_size_gives_the_same_texts(decode):
    one, log = decode("--batch_size", 1)
    assert set(one) == set(SAMPLES)  # those of 30 samples and of none, too
    assert markers(log) == [6, 6]
    assert len(set(one.values())) >= 5  # the model does listen
    for size in (2, 4, 6):
        several, log = decode("--batch_size", size)
        assert several == one
        assert markers(log) == [6, 6]


def test_the_language_is_the_rows_own(decode, data, tmp_path, monkeypatch):
    seen = []
    real = WhisperDecoder.batch_score

    def spy(self, ys, states, xs, xs_mask=None):
        if ys.shape[1] == 4:
            seen.append(ys[:: len(ys) // len(SAMPLES)].tolist())
        return real(self, ys, states, xs, xs_mask)

    monkeypatch.setattr(WhisperDecoder, "batch_score", spy)
    together, _ = decode("--batch_size", 6)
    # The lengths are not in descending order: ESPnet's own sort would permute these.
    assert seen == [[LAYOUT.prompt(LANGUAGES[uid]) for uid in SAMPLES]]
    # A language matters to this model: another one, another text, at that row alone.
    changed = tmp_path / "changed"
    write_data(changed, SAMPLES, LANGUAGES | {"u3": "zh"})
    other, _ = decode("--batch_size", 6, folder=changed)
    assert {uid for uid in SAMPLES if other[uid] != together[uid]} == {"u3"}


def test_missing_language_stops_the_job_and_names_the_utterance(decode, tmp_path):
    folder = write_data(
        tmp_path / "gap", SAMPLES, {k: v for k, v in LANGUAGES.items() if k != "u4"}
    )
    with pytest.raises(ValueError, match=r"utterance 'u4' has no language .*gap/utt2lang"):
        decode("--batch_size", 2, folder=folder)


@pytest.mark.parametrize("damage", ["missing", "no audio"])
def test_unreadable_audio_stops_the_job_and_is_named(decode, tmp_path, damage):
    folder = write_data(tmp_path / "bad", {"a": 4000, "b": 4000}, {"a": "en", "b": "en"})
    if damage == "missing":
        (folder / "b.wav").unlink()
    else:
        (folder / "b.wav").write_text("not audio")
    with pytest.raises(ValueError, match=r"audio '.*/bad/b\.wav' cannot be read .*wav\.scp"):
        decode("--batch_size", 2, folder=folder)


def test_two_runs_never_write_to_one_folder(decode, tmp_path):
    with (
        only_run(tmp_path / "run0"),
        pytest.raises(ValueError, match=r"run0 is in use by another run .*--inference_tag"),
    ):
        decode()


def test_an_utterance_listed_twice(decode, data):
    keys = (data / "wav.scp").read_text()
    with pytest.raises(ValueError, match="listed twice: u1"):
        decode(keys=keys + keys.splitlines()[0] + "\n")


def test_long_audio_is_decoded_in_pieces(decode, tmp_path):
    folder = write_data(
        tmp_path / "long", {"long": 600000, "short": 8000}, {"long": "en", "short": "zh"}
    )
    texts, log = decode("--batch_size", 4, "--beam_size", 1, folder=folder)
    assert set(texts) == {"long", "short"}
    assert len(texts["long"].split()) >= 1
    assert markers(log) == [3, 3]
    lengths = [int(m[1]) for line in log if (m := re.match(r"speech length: (\d+)", line))]
    assert sum(lengths) == 608000
    assert max(lengths) <= 480000
    assert any("utterance long lasts 37.5 s: decoded in 2 pieces" in line for line in log)


def test_out_of_memory_halves_the_batch_with_markers_in_balance(decode, monkeypatch):
    two, _ = decode("--batch_size", 2)
    real = espnet_inference.WhisperSpeech2Text._search

    def tight(self, waves, prompts, names):
        if len(waves) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return real(self, waves, prompts, names)

    monkeypatch.setattr(espnet_inference.WhisperSpeech2Text, "_search", tight)
    halved, log = decode("--batch_size", 6)
    assert halved == two
    starts, ends = markers(log)
    assert starts == ends > 6


def test_a_search_without_hypotheses_still_gives_a_line(decode, monkeypatch):
    real = espnet_inference.WhisperSpeech2Text._search

    def barren(self, waves, prompts, names):
        found = real(self, waves, prompts, names)
        return [[] if name == "u2" else hyps for name, hyps in zip(names, found, strict=True)]

    monkeypatch.setattr(espnet_inference.WhisperSpeech2Text, "_search", barren)
    texts, log = decode("--batch_size", 3)
    assert texts["u2"] == ""
    assert set(texts) == set(SAMPLES)
    assert any("utterance u2: the search ended without a hypothesis" in line for line in log)


def test_failures_name_the_utterances(decode, monkeypatch):
    real = WhisperDecoder.batch_init_state

    def broken(self, x, xs_lengths=None):
        if len(x) == 2:
            raise RuntimeError("boom")
        return real(self, x, xs_lengths)

    monkeypatch.setattr(WhisperDecoder, "batch_init_state", broken)
    with pytest.raises(RuntimeError, match="boom") as caught:
        decode("--batch_size", 4)
    assert caught.value.__notes__ == ["while decoding the utterances u5, u6"]


def test_broken_weights_name_the_utterance(decode, monkeypatch):
    real = WhisperEncoder.forward

    def broken(self, xs, lengths):
        out, out_lengths, extra = real(self, xs, lengths)
        out[lengths == SAMPLES["u3"]] = math.nan
        return out, out_lengths, extra

    monkeypatch.setattr(WhisperEncoder, "forward", broken)
    with pytest.raises(ValueError, match="utterance u3: the encoder's output is not finite"):
        decode("--batch_size", 4)


def test_wrong_options(decode):
    with pytest.raises(ValueError, match=r"ctc_weight must be 0\.0"):
        decode("--ctc_weight", 0.3)
    with pytest.raises(ValueError, match="--lang_prompt_token is not supported"):
        decode("--lang_prompt_token", "<|zh|>")


@pytest.fixture(scope="module")
def speech2text(experiment):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(WHISPER, raising=False)
        patch.delenv(SCALE, raising=False)
        patch.setattr(yaml, "safe_load", lambda file: yaml.load(file, Loader=yaml.CSafeLoader))
        return asr_inference.Speech2Text(
            str(experiment / "config.yaml"),
            str(experiment / "valid.acc.best.pth"),
            ctc_weight=0.0,
            beam_size=2,
            maxlenratio=-6,
            batch_size=2,
            nbest=2,
        )


def test_from_python_a_language_is_asked_for(speech2text):
    torch.manual_seed(0)
    waves = [torch.randn(4000), torch.randn(7000).numpy()]
    with pytest.raises(ValueError, match="no language: pass language='zh'"):
        speech2text(waves[0])
    one = [speech2text(w, language=c) for w, c in zip(waves, ("zh", "en"), strict=True)]
    both = speech2text(waves, language=["zh", "en"])
    assert [nbest[0][0] for nbest in one] == [nbest[0][0] for nbest in both]
    assert all(len(nbest) == 2 for nbest in both)
    with pytest.raises(ValueError, match="1 languages for 2 utterances"):
        speech2text(waves, language=["zh"])
    with pytest.raises(ValueError, match="one channel"):
        speech2text(torch.randn(4000, 2), language="zh")
    with pytest.raises(ValueError, match="'yue' needs a larger vocabulary"):
        speech2text(waves[0], language="yue")


def test_exclamation_marks_stay_and_lines_stay_whole(speech2text):
    ids = [0, *LAYOUT.encode(" a\nb\u2028c\t!"), LAYOUT.timestamp_begin]
    prompt = LAYOUT.prompt("en")
    hypothesis = asr_inference.Hypothesis(
        yseq=torch.tensor([*prompt, *ids, LAYOUT.eot, LAYOUT.eot]), score=-1.0
    )
    text, tokens, found, _ = speech2text._results([hypothesis], prompt, "u")[0]
    assert text == "! a b c !"
    assert found == ids
    assert tokens[0] == "!" and tokens[-1] == "<|0.00|>"
    broken = hypothesis._replace(score=math.nan)
    with pytest.raises(ValueError, match="utterance u: score nan"):
        speech2text._results([broken], prompt, "u")
