"""Our reading of `asr_inference`'s options: ESPnet's names, types and defaults, every one."""

import pytest
from espnet2.bin.asr_inference import get_parser

from espnet_blora.plugin.inference_options import (
    EXTRA,
    READ,
    REFUSED,
    extras,
    parse,
    why_espnet,
)

SCP = "dump/wav.scp,speech,sound"


@pytest.fixture
def words(tmp_path):
    """A command line that our search takes."""
    config = tmp_path / "config.yaml"
    config.write_text("encoder: whisper\ndecoder: whisper\n")
    return [
        *("--output_dir", "out", "--asr_train_config", str(config), "--asr_model_file", "m.pth"),
        *("--data_path_and_name_and_type", SCP, "--ctc_weight", "0.0"),
    ]


def test_every_option_of_espnets_is_known_with_its_default(words):
    theirs = {a.dest: a.default for a in get_parser()._actions if a.dest != "help"}
    ours = {name: default for name, (_, default) in (READ | REFUSED).items()}
    assert ours == theirs
    assert not set(EXTRA) & set(theirs)


def test_both_parsers_read_the_same(words, tmp_path):
    config = tmp_path / "decode.yaml"
    config.write_text("beam_size: 7\npenalty: 1\nnormalize_length: true\nmaxlenratio: 0.2\n")
    line = [*words, "--config", str(config), "--nbest", "3", "--penalty", "0.5", "--ngpu", "0"]
    line += ["--key_file", "none", "--log_level", "debug", "--streaming", "False"]
    theirs, ours = vars(get_parser().parse_args(line)), vars(parse(line))
    for name, value in theirs.items():
        if name == "data_path_and_name_and_type":
            value = [tuple(one) for one in value]
        assert ours[name] == value, name


def test_what_our_search_takes(words):
    options = parse(words)
    assert why_espnet(options) is None
    assert extras(options) == []


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (("--lm_file", "lm.pth"), "--lm_file is given"),
        (("--streaming", "true"), "--streaming is given"),
        (("--dtype", "float64"), "--dtype float64"),
        (("--ctc_weight", "0.3"), "ctc_weight is 0.3"),
        (("--data_path_and_name_and_type", "x,text,text"), "not one wav.scp of sound"),
    ],
)
def test_what_needs_espnets_search(words, more, why):
    assert why in why_espnet(parse([*words, *more]))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("encoder: conformer\ndecoder: whisper\n", "its encoder is not Whisper's"),
        ("encoder: whisper\ndecoder: whisper\ndecoder_conf:\n  use_cache: false\n", "use_cache"),
        ("encoder: whisper\ndecoder: whisper\nadapter: houlsby\n", "houlsby"),
    ],
)
def test_models_of_espnets_search(words, tmp_path, text, why):
    (tmp_path / "config.yaml").write_text(text)
    assert why in why_espnet(parse(words))
    (tmp_path / "config.yaml").unlink()
    assert "cannot be read" in why_espnet(parse(words))


@pytest.mark.parametrize("more", [("--nonsense", "1"), ("--beam_size", "many"), ("--config", "no")])
def test_mistakes_are_left_to_espnets_parser(words, more):
    assert isinstance(parse([*words, *more]), str)


def test_an_unknown_key_in_the_yaml_is_left_to_espnets_parser(words, tmp_path):
    config = tmp_path / "decode.yaml"
    config.write_text("beam_sise: 3\n")
    assert "not known" in parse([*words, "--config", str(config)])


def test_options_that_only_ours_has(words, tmp_path):
    config = tmp_path / "decode.yaml"
    config.write_text("rule: whisper\nno_repeat_ngram_size: 3\n")
    options = parse([*words, "--config", str(config), "--dtype", "bfloat16"])
    assert extras(options) == ["rule", "no_repeat_ngram_size", "dtype: bfloat16"]
    assert why_espnet(options) is None
