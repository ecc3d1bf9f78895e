"""One utterance on its way to the model: its language as prompt, its text as ids."""

import pickle

import numpy as np
import pytest

from espnet_blora.plugin.data_checks import Languages
from espnet_blora.plugin.preprocessor import (
    PROMPT,
    UTTERANCE,
    WhisperPreprocessor,
    pack_name,
    unpack_name,
)
from espnet_blora.whisper.vocabulary import Vocabulary

WAVE = np.zeros(800, dtype=np.float32)


@pytest.fixture(scope="module")
def layout():
    return Vocabulary.of(51866)


@pytest.fixture
def preprocess(layout):
    processor = WhisperPreprocessor(
        train=True,
        token_type="whisper_multilingual",
        bpemodel="whisper_multilingual",
        token_list=layout.token_list(),
    )
    processor.bind(Languages({"a": "zh", "b": "yue"}), decoding=False)
    return processor


def test_text_gets_the_prompt_of_its_own_language(preprocess, layout):
    for uid, code in (("a", "zh"), ("b", "yue")):
        data = preprocess(uid, {"speech": WAVE, "text": "我们 meeting"})
        assert set(data) == {"speech", "text"}
        assert data["text"].dtype == np.int64
        assert data["text"].tolist() == layout.prompt(code)[1:] + layout.encode("我们 meeting")


def test_decoding_sends_prompt_and_name_along(preprocess, layout):
    preprocess.bind(Languages({"ü-1": "en"}), decoding=True)
    data = preprocess("ü-1", {"speech": WAVE})
    assert data[PROMPT].tolist() == layout.prompt("en")
    assert unpack_name([*data[UTTERANCE], -1, -1]) == "ü-1"
    assert unpack_name(pack_name("spk_0001-zh")) == "spk_0001-zh"


def test_it_travels_to_workers(preprocess, layout):
    again = pickle.loads(pickle.dumps(preprocess))
    assert again.vocabulary is layout
    data = again("b", {"speech": WAVE, "text": "x"})
    assert data["text"].tolist() == layout.prompt("yue")[1:] + layout.encode("x")


def test_missing_language_names_the_utterance(preprocess):
    with pytest.raises(ValueError, match="utterance 'c' has no language"):
        preprocess("c", {"speech": WAVE, "text": "x"})


def test_longest_text_and_one_token_more(preprocess, layout):
    word = layout.decode([1000])
    fits = preprocess("a", {"speech": WAVE, "text": word * 444})
    assert len(fits["text"]) + 1 == 448
    with pytest.raises(ValueError, match="utterance 'a': 449 tokens .* 448 positions"):
        preprocess("a", {"speech": WAVE, "text": word * 445})
    preprocess.bind(preprocess.languages, decoding=False, n_text_ctx=8)
    with pytest.raises(ValueError, match="utterance 'a': 9 tokens .* 8 positions"):
        preprocess("a", {"speech": WAVE, "text": word * 5})


@pytest.mark.parametrize(
    ("speech", "message"),
    [
        (np.zeros((800, 2), np.float32), r"'a': audio of shape \(800, 2\).*mono"),
        (np.array([0.0, np.nan], np.float32), "'a': audio with NaN"),
        (np.zeros(480001, np.float32), r"'a': 30\.00 s.*--max_wav_duration"),
        (np.zeros(399, np.float32), r"'a': 399 samples, .*\(400, 25 ms\).*--min_wav_duration 0\.1"),
    ],
)
def test_bad_audio_is_named(preprocess, speech, message):
    with pytest.raises(ValueError, match=message):
        preprocess("a", {"speech": speech, "text": "x"})


@pytest.mark.parametrize("samples", [480001, 0])
def test_audio_of_any_length_may_be_decoded(preprocess, samples):
    preprocess.bind(preprocess.languages, decoding=True)
    data = preprocess("a", {"speech": np.zeros(samples, np.float32)})
    assert len(data["speech"]) == samples


def test_espnet_prompts_are_refused(preprocess):
    with pytest.raises(ValueError, match="'a' has a 'prompt'"):
        preprocess("a", {"speech": WAVE, "text": "x", "prompt": "<|en|>"})


def test_other_token_types_are_espnets_own():
    processor = WhisperPreprocessor(
        train=True, token_type="char", token_list=["<blank>", "<unk>", "a", "b"]
    )
    assert processor.vocabulary is None
    assert processor("any", {"speech": WAVE, "text": "ab"})["text"].tolist() == [2, 3]
