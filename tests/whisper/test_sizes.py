"""Published dimensions without weights, checked against what openai-whisper does ship."""

import base64
import gzip
from dataclasses import replace

import pytest
import whisper
from whisper.model import Whisper

from espnet_blora.whisper.sizes import PUBLISHED, dims_of, empty_modules, same_whisper
from tests import whispers

PARAMETERS = {"tiny": 39e6, "base": 74e6, "small": 244e6, "medium": 769e6, "large-v2": 1550e6}


def test_every_published_size_is_known():
    assert set(PUBLISHED) == set(whisper.available_models())


@pytest.mark.parametrize("name", PUBLISHED)
def test_decoder_fits_the_alignment_heads_of_the_package(name):
    dims = dims_of(name)
    table = gzip.decompress(base64.b85decode(whisper._ALIGNMENT_HEADS[name]))
    assert len(table) == dims.n_text_layer * dims.n_text_head
    assert dims.n_audio_state == 64 * dims.n_audio_head
    assert dims.n_vocab == 51864 + (not name.endswith(".en")) + ("v3" in name or name in ALIASES)
    assert dims.n_mels == (128 if dims.n_vocab == 51866 else 80)


ALIASES = ("large", "turbo")  # of large-v3 and large-v3-turbo


@pytest.mark.parametrize(("name", "count"), PARAMETERS.items())
def test_parameter_counts_are_the_published_ones(name, count):
    modules = empty_modules(dims_of(name))
    found = sum(p.numel() for module in modules for p in module.parameters())
    assert abs(found / count - 1) < 0.06  # the paper rounds, and differs by what it leaves out


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("turbo", "large-v3-turbo", True),
        ("large", "large-v3", True),
        ("large", "large-v2", False),
        ("x.pt", "y.pt", False),
        ("x.pt", "x.pt", True),
    ],
)
def test_two_names_of_one_size_are_one_whisper(one, other, same):
    assert same_whisper(one, other) == same_whisper(other, one) == same


def test_meta_modules_have_whispers_names():
    dims = replace(dims_of("tiny"), n_audio_layer=1, n_text_layer=1)
    real = Whisper(dims)
    encoder, decoder = empty_modules(dims)
    assert {p.device.type for p in encoder.parameters()} == {"meta"}
    assert list(encoder.state_dict()) == list(real.encoder.state_dict())
    assert {k: v.shape for k, v in decoder.state_dict().items()} == {
        k: v.shape for k, v in real.decoder.state_dict().items()
    }


def test_dims_of_a_file_follow_the_file(tmp_path):
    path = tmp_path / "tiny.safetensors"
    for width in (32, 64):
        assert dims_of(whispers.whisper_file(path, width, (2, 1))) == whispers.dims(width, (2, 1))
    with pytest.raises(FileNotFoundError, match="neither a file nor a published size") as error:
        dims_of("largest")
    assert "turbo" in str(error.value) and ".en" not in str(error.value)  # those are refused
