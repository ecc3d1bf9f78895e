"""What a training needs, computed on shapes: the same bytes as on real tensors."""

import pytest

from espnet_blora.adapters.memory import step_memory
from espnet_blora.bin import memory
from tests import whispers

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
    ],
    ids=["amp", "fp32", "checkpointed", "full", "flipout"],
)
def test_shapes_alone_give_the_bytes_of_real_tensors(changes):
    config = {**CONFIG, **changes}
    on_shapes, measured = memory.computed(config, "small", 2, 5), real(config, 2)
    assert on_shapes.weights == measured.weights > 4 * 16 * 100
    assert on_shapes.peak == pytest.approx(measured.peak, rel=0.02)


def test_what_saves_memory_shows():
    plain = memory.computed(CONFIG, "small", 2, 5)
    for less in (CHECKPOINTED, {"adapter_conf": {**CONFIG["adapter_conf"], "rank": 1}}):
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
