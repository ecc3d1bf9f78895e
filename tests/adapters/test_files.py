import json
import os
import struct

import pytest
import torch
from safetensors.torch import save_file

import espnet_blora
from espnet_blora.adapters import get_adapter, read_adapter_file


@pytest.fixture
def saved(adapted, tmp_path, x):
    model, adapter = adapted
    model.train()(x)
    path = tmp_path / "adapter.safetensors"
    adapter.save(path)
    return model.eval(), adapter, path


def test_into_an_adapter_already_there(saved, build, method, x):
    model, _adapter, path = saved
    other = build()
    espnet_blora.add_adapter(other, method, rank=4, alpha=8)
    espnet_blora.load_adapter(other, path)
    assert torch.equal(other.eval()(x), model(x))
    third = build()
    espnet_blora.add_adapter(third, method, rank=6, alpha=8)
    with pytest.raises(ValueError, match="rank 4.*rank 6"):
        espnet_blora.load_adapter(third, path)
    fourth = build()
    espnet_blora.add_adapter(fourth, {"lora": "blora", "blora": "lora"}[method], rank=4)
    with pytest.raises(ValueError, match=f"of adapter '{method}'"):
        espnet_blora.load_adapter(fourth, path)


def test_the_file_says_what_it_is(saved, method):
    _, _, path = saved
    file = read_adapter_file(path)
    assert file.description["method"] == method
    assert file.description["config"]["rank"] == 4
    assert file.description["versions"]["espnet_blora"] == espnet_blora.__version__
    assert {n.rpartition(".")[2] for n in file.tensors} == {
        "lora": {"lora_A", "lora_B"},
        "blora": {"lora_A", "lora_B", "rho_A", "rho_B"},
    }[method]


def refused(model, path, message, x):
    before = model.eval()(x)
    with pytest.raises(ValueError, match=message):
        espnet_blora.load_adapter(model, path)
    assert get_adapter(model) is None and torch.equal(model(x), before)
    assert all(p.requires_grad for p in model.parameters())


def test_a_base_of_another_size_or_depth(saved, build, x):
    refused(build(width=16), saved[2], "lora_A has shape", torch.randn(1, 16))
    refused(build(blocks=3), saved[2], "this model has 6 targets.*blocks.2", x)


def test_a_rank_other_than_the_options_say(saved, build, x):
    _, _, path = saved
    file = read_adapter_file(path)
    description = {**file.description, "config": {**file.description["config"], "rank": 5}}
    del description["description_sha256"]
    save_file(file.tensors, path, {"espnet_blora": json.dumps(description)})
    refused(build(), path, "has shape \\(4, 12\\), rank 5 on this model needs", x)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file(saved, build, x, share):
    path = saved[2]
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    refused(build(), path, "truncated, damaged.*copy it again", x)


def test_a_flipped_bit(saved, build, x):
    path = saved[2]
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    refused(build(), path, "do not match their checksum", x)


@pytest.mark.parametrize(("key", "old", "new"), [("alpha", 8.0, 9.0), ("step", 1, 9)])
def test_a_flipped_bit_in_the_description(saved, build, x, key, old, new):
    path = saved[2]
    data = path.read_bytes()
    text, changed = (f'\\"{key}\\": {value}'.encode() for value in (old, new))
    assert data.count(text) == 1
    path.write_bytes(data.replace(text, changed))
    refused(build(), path, "description does not match its checksum", x)


def test_a_file_from_before_descriptions_had_a_checksum(saved, build, x):
    model, _, path = saved
    file = read_adapter_file(path)
    description = {k: v for k, v in file.description.items() if k != "description_sha256"}
    save_file(file.tensors, path, {"espnet_blora": json.dumps(description)})
    other = build()
    espnet_blora.load_adapter(other, path)
    assert torch.equal(other.eval()(x), model(x))


def test_files_of_others(saved, build, tmp_path, x):
    path = tmp_path / "other.safetensors"
    save_file({"a": torch.ones(2)}, path)
    refused(build(), path, "not of espnet_blora .adapter file", x)
    save_file({"a": torch.ones(2)}, path, {"espnet_blora": "{"})
    refused(build(), path, "description is damaged", x)
    save_file({"a": torch.ones(2)}, path, {"espnet_blora": "{}"})
    refused(build(), path, "description is incomplete", x)
    description = {**read_adapter_file(saved[2]).description, "format": 99}
    save_file({"a": torch.ones(2)}, path, {"espnet_blora": json.dumps(description)})
    refused(build(), path, "has format 99", x)
    path.write_bytes(struct.pack("<Q", 2**62) + b"{}")
    refused(build(), path, "truncated, damaged", x)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        espnet_blora.load_adapter(build(), tmp_path / "none")


def test_an_interrupted_save_keeps_the_old_file(saved, monkeypatch):
    _, adapter, path = saved
    before = path.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            with pytest.raises(OSError, match="adapter.safetensors: No space left.*intact"):
                adapter.save(path)
        assert path.read_bytes() == before
        assert [p.name for p in path.parent.iterdir()] == [path.name]
    with pytest.raises(OSError, match="adapter.safetensors/a"):
        adapter.save(path / "a")  # a file stands where a folder is needed


def test_what_is_trained_beside_the_adapter_is_named_when_it_is_saved(adapted, tmp_path, caplog):
    model, adapter = adapted
    adapter.save(tmp_path / "a.safetensors")
    assert "beside" not in caplog.text
    model.head.requires_grad_(True)
    adapter.save(tmp_path / "a.safetensors")
    assert "2 parameters that are trained beside it (such as head.bias)" in caplog.text


def test_what_has_no_values_is_not_saved(adapted, build, method, tmp_path):
    _model, adapter = adapted
    meta = espnet_blora.add_adapter(build(device="meta"), method, rank=4)
    with pytest.raises(ValueError, match="meta device"):
        meta.save(tmp_path / "a")
    with torch.no_grad():
        adapter.layers["blocks.0.attn.query"].lora_A[0, 0] = float("nan")
    with pytest.raises(ValueError, match="blocks.0.attn.query.lora_A holds NaN"):
        adapter.save(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_saving_merged_or_scaled_saves_the_factors_as_trained(saved, build, x, tmp_path):
    model, adapter, _ = saved
    expected = model(x)
    adapter.set_scale(0.3)
    adapter.merge()
    adapter.save(tmp_path / "merged")
    other = build()
    assert espnet_blora.load_adapter(other, tmp_path / "merged").scale == 1.0
    assert torch.equal(other.eval()(x), expected)
