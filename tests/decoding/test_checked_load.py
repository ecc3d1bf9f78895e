"""Whatever is wrong with a checkpoint is one clear error, at inference and at resume."""

import os

import pytest
import torch
from espnet2.tasks.asr import ASRTask

from espnet_blora.adapters import get_adapter
from espnet_blora.decoding import checked_load
from espnet_blora.plugin.settings import SCALE
from tests.plugin.tiny import BLORA, shared, whisper_file


@pytest.fixture(scope="session")
def experiment(tmp_path_factory):
    return shared(tmp_path_factory)


@pytest.fixture(scope="module")
def trained(experiment):
    """One epoch of each: with an adapter, and of the whole model."""
    return {
        "blora": experiment.train_here("loads_blora", **BLORA, max_epoch=1),
        "full": experiment.train_here("loads_full", max_epoch=1),
    }


def build(folder, file):
    return ASRTask.build_model_from_file(folder / "config.yaml", file)[0]


def damaged(tmp_path, name, sound):
    """Write a damaged version of checkpoint `sound`."""
    state = torch.load(sound)
    path = tmp_path / f"{name}.pth"
    if name == "empty_dict":
        state = {}
    elif name == "one_key_missing":
        state.pop(next(key for key in state if key.endswith(("lora_B", "mlp.0.weight"))))
    elif name == "other_names":
        state = {f"module.{key}": value for key, value in state.items()}
    elif name == "other_shapes":
        for key, value in state.items():
            if key.endswith(("lora_A", "lora_B", "mlp.0.weight")):
                state[key] = torch.cat([value, value], 0 if key.endswith("A") else -1)
    torch.save(state, path)
    if name == "truncated":
        path.write_bytes(path.read_bytes()[:-2000])
    elif name == "flipped_bit":
        raw = bytearray(path.read_bytes())
        largest = max((v for v in state.values() if v.is_floating_point()), key=torch.numel)
        raw[raw.index(largest.numpy().tobytes()) + 2] ^= 1
        path.write_bytes(raw)
        torch.load(path)  # torch notices nothing
    return path


@pytest.mark.parametrize("kind", ["blora", "full"])
@pytest.mark.parametrize(
    "name",
    ["empty_dict", "one_key_missing", "other_names", "other_shapes", "truncated", "flipped_bit"],
)
def test_a_damaged_checkpoint_is_refused_at_inference(trained, tmp_path, kind, name):
    folder = trained[kind]
    path = damaged(tmp_path, name, folder / "1epoch.pth")
    with pytest.raises(ValueError, match=f"{name}.pth") as caught:
        build(folder, path)
    text = str(caught.value)
    assert str(path) in text, text
    assert len(text) < 1200, text


@pytest.mark.parametrize("kind", ["blora", "full"])
@pytest.mark.parametrize("name", ["empty_dict", "other_shapes"])
def test_a_damaged_checkpoint_is_refused_at_resume(experiment, trained, tmp_path, kind, name):
    changes = BLORA if kind == "blora" else {}
    folder = trained[kind]
    checkpoint = folder / "checkpoint.pth"
    sound = checkpoint.read_bytes()
    try:
        states = torch.load(checkpoint)
        torch.save(states["model"], tmp_path / "model.pth")
        states["model"] = torch.load(damaged(tmp_path, name, tmp_path / "model.pth"))
        torch.save(states, checkpoint)
        with pytest.raises(ValueError, match="state dict|the checkpoint"):
            experiment.train_here(folder.name, **changes, max_epoch=2)
        assert not (folder / "2epoch.pth").exists()
    finally:
        checkpoint.write_bytes(sound)


def test_a_truncated_checkpoint_is_refused_at_resume(experiment, trained):
    checkpoint = trained["blora"] / "checkpoint.pth"
    sound = checkpoint.read_bytes()
    try:
        checkpoint.write_bytes(sound[: len(sound) // 2])
        with pytest.raises(ValueError, match=r"checkpoint\.pth.*truncated or corrupted"):
            experiment.train_here(trained["blora"].name, **BLORA, max_epoch=2)
    finally:
        checkpoint.write_bytes(sound)


@pytest.mark.parametrize("name", ["empty_dict", "truncated", "flipped_bit", "other_names"])
def test_a_damaged_init_param_is_refused(experiment, trained, tmp_path, name):
    path = damaged(tmp_path, name, trained["full"] / "1epoch.pth")
    with pytest.raises((ValueError, RuntimeError), match=r"module\.|checkpoint") as caught:
        experiment.train_here(f"init_{name}", ["--init_param", str(path)], max_epoch=1)
    if name != "other_names":  # torch's own strict load names every key of these
        assert f"{name}.pth" in str(caught.value) and "Remedy" in str(caught.value)


def test_a_checkpoint_on_another_base_is_refused(experiment, trained, tmp_path):
    other = whisper_file(tmp_path, seed=7)
    config = (trained["blora"] / "config.yaml").read_text(encoding="utf-8")
    elsewhere = tmp_path / "config.yaml"
    elsewhere.write_text(config.replace(str(experiment.whisper), str(other)), encoding="utf-8")
    with pytest.raises(ValueError, match=r"1epoch\.pth: wrong base"):
        ASRTask.build_model_from_file(elsewhere, trained["blora"] / "1epoch.pth")


def test_a_whole_checkpoint_brings_its_own_weights(trained):
    model = build(trained["full"], trained["full"] / "1epoch.pth")
    saved = torch.load(trained["full"] / "1epoch.pth")
    state = model.state_dict()
    assert state.keys() == saved.keys() and len(saved) > 30
    assert all(torch.equal(state[key], saved[key]) for key in saved)


def test_the_base_marker_stands_for_exactly_one_base(experiment, trained, tmp_path):
    model, _ = ASRTask.build_model_from_file(trained["full"] / "config.yaml", None)
    marker = tmp_path / "base.pth"
    torch.save(checked_load.base_marker(model), marker)
    assert marker.stat().st_size < 5000
    loaded = build(trained["full"], marker)
    base = model.state_dict()
    assert all(torch.equal(value, base[key]) for key, value in loaded.state_dict().items())

    with pytest.raises(ValueError, match=r"base\.pth: .*config\.yaml asks for an adapter"):
        build(trained["blora"], marker)
    torch.save({checked_load.MARKER: torch.zeros(2)}, marker)
    with pytest.raises(ValueError, match="damaged"):
        build(trained["full"], marker)
    with torch.no_grad():
        model.decoder.decoders.token_embedding.weight.mul_(1.001)
    torch.save(checked_load.base_marker(model), marker)
    with pytest.raises(ValueError, match="another base model"):
        build(trained["full"], marker)


def test_the_fingerprint_sees_swapped_weights():
    one = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    before = checked_load.fingerprint(one)
    swapped = torch.nn.Sequential(one[1], one[0])
    assert torch.equal(before, checked_load.fingerprint(one))
    assert not torch.allclose(before, checked_load.fingerprint(swapped), rtol=1e-5, atol=0)


def test_the_adapter_scale_reaches_the_decoded_model(trained, monkeypatch):
    file = trained["blora"] / "1epoch.pth"
    assert get_adapter(build(trained["blora"], file)).scale == 1
    monkeypatch.setitem(os.environ, SCALE, "0.25")
    assert get_adapter(build(trained["blora"], file)).scale == 0.25
    with pytest.raises(ValueError, match=r"--adapter-scale 0.25: this model has no adapter"):
        build(trained["full"], trained["full"] / "1epoch.pth")


def test_an_unknown_adapter_in_a_stored_config_is_named(trained, tmp_path):
    config = (trained["blora"] / "config.yaml").read_text(encoding="utf-8")
    path = tmp_path / "config.yaml"
    path.write_text(config.replace("\nadapter: blora", "\nadapter: blorra"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"'blorra' is unknown.*blora"):
        ASRTask.build_model_from_file(path, trained["blora"] / "1epoch.pth")
