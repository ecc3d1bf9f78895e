"""Every place of ESPnet that knows Whisper is ours afterwards, once, and settings stay late."""

import inspect
import io
from argparse import Namespace

import numpy as np
import pytest
import soundfile
import typeguard
from espnet2.bin import asr_inference, whisper_export_vocabulary
from espnet2.tasks import abs_task, asr
from espnet2.text import build_tokenizer
from espnet2.train import preprocessor
from espnet2.train.distributed_utils import DistributedOption

from espnet_blora import plugin
from espnet_blora.plugin import espnet_inference, vocabulary, whisper_parts, wrappers
from espnet_blora.plugin.preprocessor import PROMPT, WhisperPreprocessor
from espnet_blora.plugin.settings import WHISPER
from espnet_blora.plugin.whisper_parts import WhisperDecoder, WhisperEncoder
from espnet_blora.whisper.vocabulary import Vocabulary


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setenv(WHISPER, "tiny")
    plugin.register(whisper="tiny")


def test_every_place():
    assert asr.encoder_choices.get_class("whisper") is WhisperEncoder
    assert asr.decoder_choices.get_class("whisper") is WhisperDecoder
    assert asr.preprocessor_choices.get_class("default") is WhisperPreprocessor
    assert asr_inference.Speech2Text is espnet_inference.WhisperSpeech2Text
    assert asr_inference.inference is espnet_inference.inference
    assert whisper_export_vocabulary.export_vocabulary is vocabulary.export_vocabulary
    for module in (build_tokenizer, preprocessor):
        assert module.OpenAIWhisperTokenizer is vocabulary.WhisperTokenizer
    for module in (asr_inference, preprocessor):
        assert module.OpenAIWhisperTokenIDConverter is vocabulary.WhisperTokenizer


def test_espnets_own_functions_reach_ours(tmp_path):
    built = build_tokenizer.build_tokenizer(
        token_type="whisper_multilingual", bpemodel="whisper_multilingual", whisper_language="zh"
    )
    assert built.text2tokens("hello") == Vocabulary.of(51865).tokens(
        Vocabulary.of(51865).encode("hello")
    )
    path = tmp_path / "tokens.txt"
    whisper_export_vocabulary.main(
        ["--whisper_model", "whisper_multilingual", "--output", str(path), "--sot_asr", "false"]
    )
    assert vocabulary.vocabulary_of(path).n_vocab == 51865


def arguments(**changed):
    """The task's default arguments with a Whisper in them."""
    args = {"encoder": "whisper", "decoder": "whisper", "input_size": 1, "normalize": None, **KINDS}
    return Namespace(**{**vars(asr.ASRTask.get_parser().parse_args([])), **args, **changed})


KINDS = {"token_type": "whisper_multilingual", "bpemodel": "whisper_multilingual"}


def test_a_token_list_of_another_size_never_gets_a_fresh_embedding(monkeypatch):
    def unexpected(spec):
        raise AssertionError("the list must be checked before weights are read")

    monkeypatch.setattr(whisper_parts, "load_whisper", unexpected)
    args = arguments(token_list=Vocabulary.of(51866).token_list())
    with pytest.raises(ValueError, match="51866 tokens, but Whisper 'tiny' has 51865.*stage 5"):
        asr.ASRTask.build_model(args)
    args = arguments(token_list=["<blank>", "a", "b", "<sos/eos>"])
    with pytest.raises(ValueError, match="token_list: 4 tokens"):
        asr.ASRTask.build_model(args)


def test_model_of_the_task_is_one_whisper_loaded_once(monkeypatch, random_whisper):
    real, seen = whisper_parts.load_whisper, []
    monkeypatch.setattr(
        whisper_parts, "load_whisper", lambda spec: (seen.append(spec), real(spec))[1]
    )
    monkeypatch.setenv(WHISPER, random_whisper)
    args = arguments(token_list=Vocabulary.of(51865).token_list(), model_conf={"ctc_weight": 0.0})
    model = asr.ASRTask.build_model(args)
    assert seen == [random_whisper]
    assert (
        args.encoder_conf["whisper_model"] == args.decoder_conf["whisper_model"] == random_whisper
    )
    names = dict(model.named_parameters())
    assert "encoder.encoders.blocks.0.attn.query.weight" in names
    assert "decoder.decoders.blocks.1.cross_attn.value.weight" in names


@pytest.mark.parametrize("mode", ["train", "valid", "plot_att"])
def test_training_reads_the_utt2lang_of_its_own_set(
    tmp_path, mode, monkeypatch, random_whisper, caplog
):
    caplog.set_level("INFO")
    monkeypatch.setenv(WHISPER, random_whisper)
    paths = {}
    for name, code in (("train", "zh"), ("valid", "en")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "utt2lang").write_text(f"a {code}\n")
        (tmp_path / name / "wav.scp").write_text("a a.wav\n")
        paths[name] = [(str(tmp_path / name / "wav.scp"), "speech", "sound")]
    args = arguments(
        token_list=Vocabulary.of(51865).token_list(),
        train_data_path_and_name_and_type=paths["train"],
        valid_data_path_and_name_and_type=paths["valid"],
        decoder_conf={"whisper_model": random_whisper},
    )
    ranks = DistributedOption(distributed=True, dist_rank=0, dist_world_size=2)
    options = asr.ASRTask.build_iter_options(args, ranks, mode)
    assert ("shared out over 2 processes: 10 utterances" in caplog.text) == (mode == "train")
    text = options.preprocess_fn("a", {"text": "x"})["text"].tolist()
    code = "zh" if mode == "train" else "en"
    assert text == Vocabulary.of(51865).prompt(code)[1:] + Vocabulary.of(51865).encode("x")


def test_whisper_language_of_the_yaml_reaches_training_and_statistics(
    tmp_path, monkeypatch, random_whisper
):
    monkeypatch.setenv(WHISPER, random_whisper)
    (tmp_path / "wav.scp").write_text("a a.wav\n")
    paths = [(str(tmp_path / "wav.scp"), "speech", "sound")]
    args = arguments(
        token_list=Vocabulary.of(51865).token_list(),
        train_data_path_and_name_and_type=paths,
        preprocessor_conf={"whisper_language": "zh"},
    )
    options = asr.ASRTask.build_iter_options(args, DistributedOption(), "train")
    assert options.preprocess_fn.languages["a"] == "zh"
    preprocess = asr.ASRTask.build_preprocess_fn(args, train=False)
    asr.ASRTask.build_streaming_iterator(paths, preprocess, None, dtype="float32", inference=True)
    assert preprocess.languages["a"] == "zh"


def test_statistics_and_decoding_read_utt2lang(tmp_path):
    data = tmp_path / "set"
    data.mkdir()
    soundfile.write(data / "a.wav", np.zeros(1600), 16000)
    (data / "wav.scp").write_text(f"a {data / 'a.wav'}\n")
    (data / "text").write_text("a x\n")
    (data / "utt2lang").write_text("a zh\n")
    layout = Vocabulary.of(51865)
    speech, text = (str(data / "wav.scp"), "speech", "sound"), (str(data / "text"), "text", "text")
    for decoding in (False, True):
        loader = asr.ASRTask.build_streaming_iterator(
            [speech] if decoding else [speech, text],
            preprocess_fn=WhisperPreprocessor(False, token_list=layout.token_list(), **KINDS),
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


def half(number: int) -> float:
    """A function as ESPnet decorates its own."""
    return number / 2


class Doubler:
    """A class of which typeguard checks the methods."""

    def double(self, number: int) -> int:
        return 2 * number


def test_types_are_checked_from_the_first_call_on():
    made = []

    def typechecked(target=None, **options):
        made.append(target)
        return typeguard.typechecked(target, **options)

    lazy = wrappers.lazy_typechecked(typechecked)
    checked = lazy(half)
    assert made == [] and inspect.signature(checked) == inspect.signature(half)
    assert checked(4) == 2.0 and checked(number=6) == 3.0 and made == [half]
    with pytest.raises(typeguard.TypeCheckError, match="number"):
        checked("4")
    with pytest.raises(typeguard.TypeCheckError, match="number"):
        lazy(Doubler)().double("4")
    assert made == [half, Doubler]  # a class at once, in place


def test_config_yaml_is_written_as_espnet_writes_it():
    """By libyaml, to the letter, with the token list of a Whisper and no reference to it."""
    from espnet2.utils.yaml_no_alias_safe_dump import yaml_no_alias_safe_dump

    tokens = Vocabulary.of(51865).token_list()
    odd = ["yes", "1e-3", "~", " lead", "a: b", "- x", "#c", "two\nlines\n", "tab\t", "", "中文"]
    data = {"tokens": tokens[-3000:], "again": tokens[-3000:], "odd": odd, "x": [1e-3, None, {}]}
    data["twice"] = data["odd"]
    fast = wrappers.fast_dump(yaml_no_alias_safe_dump)
    wanted = yaml_no_alias_safe_dump(data, indent=4, sort_keys=False)
    assert fast(data, indent=4, sort_keys=False) == wanted
    file = io.StringIO()
    fast(data, file, indent=4, sort_keys=False)
    assert file.getvalue() == wanted
    assert abs_task.yaml_no_alias_safe_dump.__wrapped__ is yaml_no_alias_safe_dump  # ours is there
