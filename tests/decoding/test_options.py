"""Decoding options: filled by name, checked, and offered on every command line alike."""

import argparse
from dataclasses import fields

import pytest

from espnet_blora.decoding.options import (
    GROUPS,
    DecodingOptions,
    add_options,
    describe_options,
)


def test_a_mapping_fills_the_record_by_name():
    values = {"beam_size": 3.0, "penalty": 1, "length_penalty": None, "normalize_length": "true"}
    options = DecodingOptions.from_mapping(values)
    assert options == DecodingOptions(beam_size=3, penalty=1.0, normalize_length=True)
    assert isinstance(options.beam_size, int) and isinstance(options.penalty, float)


@pytest.mark.parametrize(
    ("values", "fragments"),
    [
        ({"beam_sise": 3}, ["decode.yaml", "beam_sise", "beam_size"]),
        ({"beam_size": "many"}, ["decode.yaml", "beam_size", "many"]),
        ({"beam_size": 2.5}, ["decode.yaml", "beam_size", "2.5"]),
        ({"beam_size": None}, ["decode.yaml", "beam_size", "None"]),
        ({"beam_size": True}, ["decode.yaml", "beam_size", "True"]),
        ({"normalize_length": "perhaps"}, ["decode.yaml", "normalize_length", "perhaps"]),
    ],
)
def test_what_does_not_fit_is_named(values, fragments):
    with pytest.raises(ValueError, match="decode.yaml") as caught:
        DecodingOptions.from_mapping(values, "decode.yaml")
    assert all(fragment in str(caught.value) for fragment in fragments)


@pytest.mark.parametrize(
    ("wrong", "datum"),
    [
        ({"beam_size": 0}, "beam_size is 0"),
        ({"nbest": 0}, "nbest is 0"),
        ({"rule": "kaldi"}, "whisper or espnet"),
        ({"maxlenratio": float("nan")}, "maxlenratio is nan"),
        ({"penalty": float("inf")}, "penalty is inf"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"patience": 0.1, "beam_size": 1}, "patience is 0.1"),
        ({"patience": float("nan")}, "patience is nan"),
        ({"length_penalty": 2.0}, "length_penalty is 2.0"),
        ({"task": "sing"}, "task is 'sing'"),
        ({"confidence_temperature": 0.0}, "confidence_temperature is 0.0"),
        ({"temperature": 1.1}, "temperature is 1.1"),
        ({"logprob_threshold": float("nan")}, "logprob_threshold is nan"),
        ({"samples": -1}, "samples is -1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"chunk_length": 31.0}, "chunk_length is 31.0"),
        ({"no_repeat_ngram_size": -1}, "no_repeat_ngram_size is -1"),
        ({"min_tokens": -1}, "min_tokens is -1"),
        ({"word_confidence": "max"}, "word_confidence is 'max'"),
    ],
)
def test_options_that_cannot_be(wrong, datum):
    with pytest.raises(ValueError, match=datum):
        DecodingOptions(**wrong)


def test_every_field_is_an_option_with_its_default_and_a_help():
    parser = argparse.ArgumentParser()
    names = [name for group in GROUPS.values() for name in group]
    add_options(parser, names, beam_size=1)
    assert names == [field.name for field in fields(DecodingOptions)]
    assert DecodingOptions.from_namespace(parser.parse_args([])) == DecodingOptions(beam_size=1)
    line = ["--rule", "espnet", "--word_timestamps", "--suppress_blank", "false", "--penalty", "1"]
    assert DecodingOptions.from_namespace(parser.parse_args(line)) == DecodingOptions(
        beam_size=1, rule="espnet", word_timestamps=True, suppress_blank=False, penalty=1.0
    )
    rows = describe_options()
    assert [row.name for row in rows] == names
    assert all(row.help and row.group in GROUPS and row.type for row in rows)
    parser.format_help()
