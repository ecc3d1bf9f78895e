"""The warning about adapted layers that training never calls."""

import copy
import pickle

import pytest
from torch import nn

import espnet_blora


class Functional(nn.Module):
    """An attention as in fairseq or s3prl: its projections' weights are read, never called."""

    def __init__(self):
        super().__init__()
        self.q_proj, self.out = nn.Linear(12, 12), nn.Linear(12, 12)

    def forward(self, x):
        return self.out(nn.functional.linear(x, self.q_proj.weight))


@pytest.mark.parametrize("method", ["lora", "blora"])
def test_layers_that_training_never_calls_are_named_once(caplog, method, x):
    model = Functional()
    adapter = espnet_blora.add_adapter(model, method, target_modules=["q_proj", "out"], rank=4)
    for _ in range(2):
        model.eval()(x)
    assert "not called" not in caplog.text  # evaluation alone says nothing
    for copied in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        caplog.clear()
        for _ in range(3):
            copied.train()(x)
        assert caplog.text.count("1 of 2 adapted Linears were not called") == 1
        assert "q_proj." in caplog.text and "out" not in caplog.text.partition("q_proj.")[0]
        assert copied.adapter_state.context.called is None  # nothing goes on noting calls
    assert adapter.step == 3


def test_layers_are_named_in_a_loop_over_parts_of_the_model(build, caplog, x):
    model = build().train()
    adapter = espnet_blora.add_adapter(model, "lora", target_modules=["query", "head"], rank=4)
    for _ in range(3):
        adapter.advance()
        model.blocks(x)
    assert caplog.text.count("1 of 3 adapted Linears were not called") == 1
    assert "head" in caplog.text


def test_a_model_that_calls_all_is_not_warned_of(adapted, caplog, x):
    model, _ = adapted
    model.train()
    with pytest.raises(RuntimeError):
        model(x[..., :3])  # a forward that fails says nothing about layers
    model(x)
    model(x)
    assert "not called" not in caplog.text and model.adapter_state.context.called is None
