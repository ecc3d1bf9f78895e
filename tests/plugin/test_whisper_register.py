"""Every place of ESPnet that knows Whisper is ours afterwards, once, and settings stay late."""

import numpy as np
import pytest
import soundfile
from espnet2.bin import asr_inference, whisper_export_vocabulary
from espnet2.tasks import asr
from espnet2.text import build_tokenizer
from espnet2.train import preprocessor

from espnet_blora.plugin import inference, tokenizer, vocabulary
from espnet_blora.plugin.preprocessor import PROMPT, WhisperPreprocessor
from espnet_blora.plugin.settings import WHISPER, Settings
from espnet_blora.plugin.whisper_decoder import WhisperDecoder
from espnet_blora.plugin.whisper_encoder import WhisperEncoder
from espnet_blora.plugin.whisper_register import register_whisper
from espnet_blora.whisper.vocabulary import Layout


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setenv(WHISPER, "tiny")
    register_whisper(Settings(whisper="tiny"))


def test_every_place():
    assert asr.encoder_choices.get_class("whisper") is WhisperEncoder
    assert asr.decoder_choices.get_class("whisper") is WhisperDecoder
    assert asr.preprocessor_choices.get_class("default") is WhisperPreprocessor
    assert asr_inference.Speech2Text is inference.WhisperSpeech2Text
    assert asr_inference.inference is inference.inference
    assert whisper_export_vocabulary.export_vocabulary is vocabulary.export_vocabulary
    for module in (build_tokenizer, preprocessor):
        assert module.OpenAIWhisperTokenizer is tokenizer.WhisperTokenizer
    for module in (asr_inference, preprocessor):
        assert module.OpenAIWhisperTokenIDConverter is tokenizer.WhisperTokenIDConverter


def test_espnets_own_functions_reach_ours(tmp_path):
    built = build_tokenizer.build_tokenizer(
        token_type="whisper_multilingual", bpemodel="whisper_multilingual", whisper_language="zh"
    )
    assert built.text2tokens("hello") == Layout.of(51865).tokens(Layout.of(51865).encode("hello"))
    path = tmp_path / "tokens.txt"
    whisper_export_vocabulary.main(
        ["--whisper_model", "whisper_multilingual", "--output", str(path), "--sot_asr", "false"]
    )
    assert vocabulary.layout_of(path).n_vocab == 51865


def test_twice_is_once():
    before = {name: getattr(asr.ASRTask, name).__func__ for name in WRAPPED}
    register_whisper()
    assert before == {name: getattr(asr.ASRTask, name).__func__ for name in WRAPPED}


WRAPPED = ("build_model", "build_model_from_file", "build_iter_options", "build_streaming_iterator")


def test_statistics_and_decoding_read_utt2lang(tmp_path):
    data = tmp_path / "set"
    data.mkdir()
    soundfile.write(data / "a.wav", np.zeros(1600), 16000)
    (data / "wav.scp").write_text(f"a {data / 'a.wav'}\n")
    (data / "text").write_text("a x\n")
    (data / "utt2lang").write_text("a zh\n")
    layout = Layout.of(51865)
    kinds = {"token_type": "whisper_multilingual", "bpemodel": "whisper_multilingual"}
    speech, text = (str(data / "wav.scp"), "speech", "sound"), (str(data / "text"), "text", "text")
    for decoding in (False, True):
        loader = asr.ASRTask.build_streaming_iterator(
            [speech] if decoding else [speech, text],
            preprocess_fn=WhisperPreprocessor(False, token_list=layout.token_list(), **kinds),
            collate_fn=asr.CommonCollateFn(float_pad_value=0.0, int_pad_value=-1),
            dtype="float32",
            num_workers=0,
            inference=decoding,
        )
        keys, batch = next(iter(loader))
        assert keys == ["a"]
        if decoding:
            assert batch[PROMPT].tolist() == [layout.prompt("zh")]
        else:
            assert PROMPT not in batch
            assert batch["text"].tolist() == [layout.prompt("zh")[1:] + layout.encode("x")]
