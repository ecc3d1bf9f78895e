"""What a training needs, computed on shapes: the same bytes as on real tensors."""

import re
from pathlib import Path

import pytest
import yaml

from espnet_blora.adapters.memory import step_memory
from espnet_blora.bin import make_config, memory
from espnet_blora.whisper import sizes
from tests import whispers

ROOT = Path(__file__).resolve().parents[2]
DIMS = whispers.dims(16, (2, 1), vocab=100)
CONFIG = {
    "use_adapter": True,
    "adapter": "blora",
    "adapter_conf": {"rank": 4, "target_modules": ["query", "mlp.0"]},
    "use_amp": True,
    "batch_size": 2,
}
CHECKPOINTED = {
    f"{part}_conf": {"activation_checkpointing": True} for part in ("encoder", "decoder")
}
NARROW = {"model_conf": {"narrow_base": True}}


def real(config, batch):
    """The same step, on tensors that have values."""
    return step_memory(*memory.training_step(config, DIMS, batch, tokens=5))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(memory, "dims_of", lambda _: DIMS)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_amp": False},
        CHECKPOINTED,
        {"use_adapter": False},
        {"adapter_conf": {**CONFIG["adapter_conf"], "sampling": "flipout"}},
        NARROW,
    ],
    ids=["amp", "fp32", "checkpointed", "full", "flipout", "narrow"],
)
def test_shapes_alone_give_the_bytes_of_real_tensors(changes):
    config = {**CONFIG, **changes}
    on_shapes, measured = memory.computed(config, "small", 2, 5), real(config, 2)
    assert on_shapes.weights == measured.weights > 3 * 16 * 100
    assert on_shapes.peak == pytest.approx(measured.peak, rel=0.02)


def test_what_saves_memory_shows():
    plain = memory.computed(CONFIG, "small", 2, 5)
    for less in (CHECKPOINTED, NARROW, {"adapter_conf": {**CONFIG["adapter_conf"], "rank": 1}}):
        assert memory.computed({**CONFIG, **less}, "small", 2, 5).peak < plain.peak
    # Noise of this process is not drawn from tensors without values afterwards.
    assert real({**CONFIG, "adapter_conf": {**CONFIG["adapter_conf"], "sampling": "flipout"}}, 1)


def test_the_table_names_the_largest_batch_of_each_card(capsys):
    assert memory.main(["--whisper", "small", "--tokens", "5", "--set", "batch_size=2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    sizes = {line.partition("  ")[0]: float(line.split()[-2]) for line in lines[1:6]}
    parts = ("weights", "optimiser", "activations, gradients")
    assert sum(sizes[part] for part in parts) == pytest.approx(sizes["together"], abs=0.02)
    batches = [int(line.split()[-1]) for line in lines[-5:]]
    assert batches == sorted(batches) and batches[0] > 100
    assert memory.main(["--whisper", "small", "--adapter", "none"]) == 2
    assert memory.main(["--whisper", "small", "--adapter", "blorra"]) == 2


def test_an_experiments_own_yaml_is_read(tmp_path, capsys):
    """As run.sh gives it before stage 11."""
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    assert memory.main(["--whisper", "small", "--tokens", "5", "--config", str(path)]) == 0
    found = capsys.readouterr().out
    assert found.startswith("small, blora, batch 2 x 30 s, 5 tokens")
    _, _, fits = memory.largest_batches(CONFIG, "small", 5)
    assert found.splitlines()[-len(fits) :] == [f"{card:2} GB    {n}" for card, n in fits.items()]


@pytest.mark.integration  # 36 blocks, four steps: 17 CPU seconds
@pytest.mark.timeout(900)
def test_the_hints_of_documentation_and_recipes_are_the_tables(monkeypatch):
    monkeypatch.setattr(memory, "dims_of", sizes.dims_of)
    files = [memory.SHARED / "train.yaml", memory.SHARED / "adapter_blora.yaml"]
    config = make_config.merge(*map(make_config.load, files))
    _, _, fits = memory.largest_batches(config, "large-v3-turbo", 100)
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    said = "{16}, {24}, {48} and {80} utterances fit on 16, 24, 48 and 80 GB"
    for card, batch in fits.items():
        said = said.replace(f"{{{card}}}", str(batch))
    assert said in " ".join(page.split())
    comment = files[0].read_text(encoding="utf-8")
    assert f"{fits[16]} on a GPU of 16 GB, {fits[24]} on 24 GB, {fits[80]} on 80 GB" in comment
    hint = re.compile(
        r"`batch_size` (\d+) and `accum_grad` \d for 24 GB; (\d+) and \d for 16 GB; (\d+)"
    )
    found = [
        match.groups()
        for path in ROOT.glob("egs2/*/asr1/README.md")
        if (match := hint.search(" ".join(path.read_text(encoding="utf-8").split())))
    ]
    assert len(found) >= 7
    for batches in found:
        for card, batch in zip((24, 16, 80), batches, strict=True):
            assert fits[card] / 3 <= int(batch) <= fits[card]
