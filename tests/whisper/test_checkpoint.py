"""Whisper from files: both formats give the same model, and a bad file gives one clear error."""

import copy
import json
from dataclasses import asdict
from urllib.error import URLError

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from whisper.model import Whisper

from espnet_blora.whisper.checkpoint import dims_of_file, is_published, load_whisper, save_whisper
from espnet_blora.whisper.safe_torch_load import damaged_entry
from tests.whispers import dims, random_whisper

DIMS = dims(32, (2, 1), context=64)


@pytest.fixture(scope="module")
def model() -> Whisper:
    return random_whisper(32, (2, 1), context=64)


def test_safetensors_round_trip_is_exact_after_the_first_rounding(model, tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_whisper(model, path, notes={"mer_percent": "{}"})
    once = load_whisper(path)
    save_whisper(once, path)
    twice = load_whisper(path)
    assert dims_of_file(path) == DIMS == twice.dims
    for name, tensor in once.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, twice.state_dict()[name]), name
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(once.state_dict()[name], tensor, rtol=1e-3, atol=1e-6)
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.safetensors"]


def test_openai_checkpoint(model, tmp_path):
    path = tmp_path / "tiny.pt"
    torch.save({"dims": asdict(DIMS), "model_state_dict": model.state_dict()}, path)
    loaded = load_whisper(path)
    assert dims_of_file(path) == DIMS
    assert all(torch.equal(t, loaded.state_dict()[n]) for n, t in model.state_dict().items())


def test_published_names():
    assert is_published("large-v3-turbo")
    assert is_published("tiny")
    assert not is_published("large-v9")


def test_neither_size_nor_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"'smal' is neither .* small.* \.safetensors"):
        load_whisper("smal")


def test_a_published_size_that_cannot_be_fetched(tmp_path, monkeypatch):
    def no_network(url):
        raise URLError("no route to host")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    wanted = rf"'tiny' is not in {tmp_path}/whisper .*no route to host.*fetch_whisper tiny"
    with pytest.raises(FileNotFoundError, match=wanted):
        load_whisper("tiny")


@pytest.mark.parametrize("name", ["tiny.safetensors", "tiny.pt"])
def test_truncated_and_foreign_files(model, tmp_path, name):
    path = tmp_path / name
    if path.suffix == ".pt":
        torch.save({"dims": asdict(DIMS), "model_state_dict": model.state_dict()}, path)
    else:
        save_whisper(model, path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match=f"{name}: not a readable"):
        load_whisper(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=name):
        load_whisper(path)
    if path.suffix == ".pt":
        torch.save({"weights": torch.zeros(1)}, path)
    else:
        save_file({"weights": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"dims"):
        load_whisper(path)


def test_positions_of_the_encoder_are_kept_where_they_are_not_the_sinusoids(model, tmp_path):
    name = "encoder.positional_embedding"
    save_whisper(model, tmp_path / "usual.safetensors")
    with safe_open(tmp_path / "usual.safetensors", "pt") as file:
        assert name not in file.keys()  # noqa: SIM118
    usual, model = model, copy.deepcopy(model)
    model.encoder.positional_embedding *= 0.25
    save_whisper(model, tmp_path / "other.safetensors")
    loaded = load_whisper(tmp_path / "other.safetensors").state_dict()[name]
    assert torch.allclose(loaded, 0.25 * usual.state_dict()[name], atol=1e-3)


def test_a_flipped_bit(model, tmp_path):
    path = tmp_path / "tiny.pt"
    torch.save({"dims": asdict(DIMS), "model_state_dict": model.state_dict()}, path)
    raw = bytearray(path.read_bytes())
    raw[raw.index(model.decoder.positional_embedding.detach().numpy().tobytes()) + 2] ^= 1
    path.write_bytes(raw)
    assert dims_of_file(path) == DIMS  # torch notices nothing
    with pytest.raises(ValueError, match=r"tiny\.pt: damaged, .*/data/\d+ does not match"):
        load_whisper(path)


@pytest.mark.parametrize("part", ["tensors", "dims"])
def test_a_flipped_bit_in_safetensors(model, tmp_path, part):
    path = tmp_path / "tiny.safetensors"
    save_whisper(model, path, dtype=torch.float32)
    raw = bytearray(path.read_bytes())
    if part == "tensors":
        raw[raw.index(model.decoder.positional_embedding.detach().numpy().tobytes()) + 2] ^= 1
    else:
        raw[raw.index(b"n_audio_head") + len(b'n_audio_head\\": ')] ^= 3  # 2 to 1: all tensors fit
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=r"tiny\.safetensors: .*checksum.*fetch it anew"):
        load_whisper(path)


def test_safetensors_without_a_checksum_are_read(model, tmp_path):
    state = {k: v.clone() for k, v in model.state_dict().items()}
    save_file(state, tmp_path / "old.safetensors", metadata={"dims": json.dumps(asdict(DIMS))})
    loaded = load_whisper(tmp_path / "old.safetensors").state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in state.items())


@pytest.mark.parametrize(("place", "bit"), [(6, 0x40), (8, 1), (10, 0x40), (32, 0x40), (38, 0x10)])
def test_a_damaged_directory(model, tmp_path, place, bit):
    """A bit of: version, flags (encrypted), compression, the comment's length, "is a folder"."""
    path = tmp_path / "tiny.pt"
    torch.save({"dims": asdict(DIMS), "model_state_dict": model.state_dict()}, path)
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\x01\x02") + place] ^= bit
    path.write_bytes(raw)
    assert "its directory (" in damaged_entry(path)
    with pytest.raises(ValueError, match=r"tiny\.pt: damaged, its directory"):
        load_whisper(path)


class Bomb:
    """Pickles into a call; a loader that runs code would create the file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_code_in_a_checkpoint_is_never_run(tmp_path):
    path, target = tmp_path / "bomb.pt", tmp_path / "exploded"
    torch.save({"dims": Bomb(str(target))}, path)
    with pytest.raises(ValueError, match="never run"):
        load_whisper(path)
    assert not target.exists()


def test_tensors_that_do_not_fit_the_dimensions(model, tmp_path):
    path = tmp_path / "wide.pt"
    wrong = {**asdict(DIMS), "n_text_state": 48, "n_text_head": 3}
    torch.save({"dims": wrong, "model_state_dict": model.state_dict()}, path)
    with pytest.raises(ValueError, match="do not fit its dimensions"):
        load_whisper(path)


def test_without_a_start_the_weights_are_the_same_and_nothing_is_drawn(model, tmp_path):
    save_whisper(model, tmp_path / "w.safetensors", dtype=torch.float32)
    before = torch.get_rng_state()
    quick = load_whisper(tmp_path / "w.safetensors", start=False)
    assert torch.equal(torch.get_rng_state(), before)
    usual = load_whisper(tmp_path / "w.safetensors")
    assert not torch.equal(torch.get_rng_state(), before)
    found, wanted = quick.state_dict(), usual.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    assert torch.equal(quick.decoder.mask, usual.decoder.mask)
