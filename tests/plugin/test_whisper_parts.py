"""One load for both halves, and which Whisper it is: yaml, launcher, or a contradiction."""

import shutil
from argparse import Namespace

import pytest
import torch

from espnet_blora.plugin import whisper_parts
from espnet_blora.plugin.settings import WHISPER
from espnet_blora.plugin.whisper_parts import (
    fill_whisper_model,
    parts_for_decoder,
    parts_for_encoder,
)
from espnet_blora.whisper.sizes import dims_of


@pytest.fixture(scope="module")
def checkpoint(random_whisper):
    return random_whisper


@pytest.fixture
def loads(monkeypatch):
    real, seen = whisper_parts.load_whisper, []
    monkeypatch.setattr(
        whisper_parts, "load_whisper", lambda spec: (seen.append(spec), real(spec))[1]
    )
    whisper_parts.forget()
    return seen


def test_two_halves_one_load(checkpoint, loads):
    encoder = parts_for_encoder(checkpoint).encoder
    taken = parts_for_decoder(checkpoint)
    assert loads == [checkpoint]
    assert taken.encoder is encoder
    assert taken.dims == dims_of(checkpoint)
    parts_for_decoder(checkpoint)  # nothing is left over for a second decoder
    assert loads == [checkpoint] * 2


def test_what_no_decoder_takes_is_not_kept(checkpoint, loads, tmp_path):
    other = tmp_path / "other.safetensors"
    shutil.copy(checkpoint, other)
    parts_for_encoder(checkpoint)
    parts_for_decoder(str(other))
    assert loads == [checkpoint, str(other)]
    with torch.device("meta"):
        parts_for_encoder(checkpoint)
    assert parts_for_decoder(checkpoint).encoder.conv1.weight.device.type == "cpu"


def args(encoder_model=None, decoder_model=None, **names):
    conf = [{"whisper_model": m} if m else {} for m in (encoder_model, decoder_model)]
    return Namespace(
        encoder=names.get("encoder", "whisper"),
        decoder=names.get("decoder", "whisper"),
        encoder_conf=conf[0],
        decoder_conf=conf[1],
    )


def test_launcher_fills_what_the_yaml_leaves_open(monkeypatch):
    monkeypatch.setenv(WHISPER, "large-v3")
    given = args()
    defaults = given.encoder_conf
    assert fill_whisper_model(given) == "large-v3"
    assert given.encoder_conf == given.decoder_conf == {"whisper_model": "large-v3"}
    assert defaults == {}  # the parser's own default is not touched
    assert fill_whisper_model(args("large-v3", "large-v3")) == "large-v3"


def test_contradictions_are_errors(monkeypatch):
    monkeypatch.setenv(WHISPER, "small")
    with pytest.raises(
        ValueError, match=r"encoder_conf\.whisper_model is 'tiny' .*--whisper 'small'"
    ):
        fill_whisper_model(args("tiny", "tiny"))
    monkeypatch.setenv(WHISPER, "")
    with pytest.raises(ValueError, match="encoder of Whisper 'tiny' with a decoder of 'base'"):
        fill_whisper_model(args("tiny", "base"))
    with pytest.raises(ValueError, match="encoder: whisper, but which"):
        fill_whisper_model(args())
    assert fill_whisper_model(args("tiny", "tiny")) == "tiny"


def test_a_trained_configuration_decides_itself(monkeypatch, caplog, tmp_path):
    monkeypatch.setenv(WHISPER, "small")
    config = tmp_path / "exp" / "config.yaml"
    assert fill_whisper_model(args("tiny", "tiny"), trained=config) == "tiny"
    assert "but 'small' is asked for; using 'tiny'" in caplog.text
    gone = str(tmp_path / "moved.safetensors")
    assert fill_whisper_model(args(gone, gone), trained=config) == "small"
    config.parent.mkdir()
    packed = config.with_name("moved.safetensors")  # as a packed model has it
    packed.touch()
    assert fill_whisper_model(args(gone, gone), trained=config) == str(packed)


def test_other_models_are_left_alone(monkeypatch):
    monkeypatch.setenv(WHISPER, "small")
    other = args(encoder="conformer", decoder="transformer")
    assert fill_whisper_model(other) is None
    assert other.encoder_conf == {}
