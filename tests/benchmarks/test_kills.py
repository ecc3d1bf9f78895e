"""A training that is killed at random moments loses nothing; a sample of benchmarks/kills.py."""

import pytest
import torch

from benchmarks import kills


def test_what_differs_is_named():
    one = {"w": torch.zeros(2), "losses": [1.0, float("nan")], "epoch": 3}
    assert kills.differences(one, {**one, "w": torch.zeros(2)}) == []
    other = {"w": torch.tensor([0.0, 1e-45]), "losses": [1.0, 2.0], "epoch": 3}
    assert kills.differences(one, other) == ["/w", "/losses/1"]
    assert kills.differences(one, {"w": one["w"]}) == [": ['epoch', 'losses']"]


@pytest.mark.integration
def test_a_killed_training_ends_as_one_that_was_not(tmp_path, monkeypatch):
    monkeypatch.setattr(kills, "EPOCHS", 3)
    case = kills.CASES["blora, activation_checkpointing"]
    found = kills.battery(tmp_path, case, kills=2)
    assert found["kills"] >= 2 and found["trainings"] >= 1
    assert found["lost"] == 0 and found["differences"] == []
