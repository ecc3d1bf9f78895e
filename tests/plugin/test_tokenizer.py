"""ESPnet's tokenizer and id converter over today's openai-whisper."""

import pytest

from espnet_blora.plugin.settings import WHISPER
from espnet_blora.plugin.vocabulary import (
    WhisperTokenizer,
    check_supported,
    default_vocabulary,
)
from espnet_blora.whisper.vocabulary import Vocabulary

TEXTS = ["hello world", "我们 meeting 吧", "मेरी किताब", "!", "", "café ¿qué?"]


@pytest.mark.parametrize("n_vocab", [51865, 51866])
@pytest.mark.parametrize("text", TEXTS)
def test_round_trip(n_vocab, text):
    layout = Vocabulary.of(n_vocab)
    tokenizer = WhisperTokenizer(vocabulary=layout)
    tokens = tokenizer.text2tokens(text)
    ids = tokenizer.tokens2ids(tokens)
    assert ids == layout.tokenizer.encode(text)
    assert tokenizer.ids2tokens(ids) == tokens
    assert tokenizer.tokens2text(tokens) == text
    assert tokenizer.get_num_vocabulary_size() == n_vocab


def test_control_tokens_leave_the_text():
    layout = Vocabulary.of(51866)
    tokenizer = WhisperTokenizer(vocabulary=layout)
    tokens = tokenizer.ids2tokens([*layout.prompt("yue"), 0, layout.eot])
    assert tokens == [
        "<|startoftranscript|>",
        "<|yue|>",
        "<|transcribe|>",
        "<|notimestamps|>",
        "!",
        "<|endoftext|>",
    ]
    assert tokenizer.tokens2text(tokens) == "!"


@pytest.mark.parametrize(
    ("spec", "n_vocab"), [("", 51865), ("small", 51865), ("large-v3-turbo", 51866)]
)
def test_the_launcher_decides_the_default(monkeypatch, spec, n_vocab):
    monkeypatch.setenv(WHISPER, spec)
    assert default_vocabulary().n_vocab == n_vocab


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_type": "whisper_en"}, "'whisper_en': only whisper_multilingual"),
        ({"task": "translate"}, "'translate': only 'transcribe'"),
        ({"added_tokens_txt": "nlsyms.txt"}, "nlsyms.txt.*untrained embeddings"),
        ({"sot": True}, "sot_asr"),
    ],
)
def test_what_would_go_wrong_in_silence_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        WhisperTokenizer(**options)
    check_supported("whisper_multilingual", "transcribe", "none", False)
