import pytest
import torch

import espnet_blora
from espnet_blora.adapters import average_states


def states(build, shake, trained_state):
    trained = []
    for seed in range(3):
        model = build()
        adapter = shake(espnet_blora.add_adapter(model, "blora", rank=4), seed=seed)
        with torch.no_grad():
            for layer in adapter.layers.values():
                layer.rho_A.sub_(seed)
        for _ in range(seed):
            adapter.advance()
        trained.append((model, trained_state(model)))
    return trained


def test_means_are_averaged_and_the_rest_is_the_best(build, shake, trained_state):
    trained = states(build, shake, trained_state)
    plain = [state for _, state in trained]
    average = average_states(plain, plain[1])
    key = "blocks.0.attn.query.lora_A"
    assert torch.allclose(average[key], sum(s[key] for s in plain) / 3)
    assert not torch.allclose(average[key], plain[1][key])
    for key, value in average.items():
        if "lora_" not in key:
            assert torch.equal(value, plain[1][key]) and value.dtype == plain[1][key].dtype
    assert int(average["adapter_state.step"]) == 1
    trained[0][0].load_state_dict(average, strict=False)  # and it passes the checks of a load


def test_one_state_is_itself(build, shake, trained_state):
    state = states(build, shake, trained_state)[0][1]
    average = average_states([state], state)
    assert all(torch.equal(average[key], state[key]) for key in state)


def test_what_is_the_same_in_all_stays_bit_for_bit(build, trained_state):
    """The mean of three 0.1 is 0.10000000000000002."""
    model = build(dtype=torch.float64)
    adapter = espnet_blora.add_adapter(model, "lora", rank=4)
    with torch.no_grad():
        adapter.layers["blocks.0.attn.query"].lora_A.fill_(0.1)
    state = trained_state(model)
    average = average_states([state] * 3, state)
    assert all(torch.equal(average[key], state[key]) for key in state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: ([], s), "no state to average"),
        (lambda s: ([{"a": torch.ones(1)}], {"a": torch.ones(1)}), "no lora_A"),
        (lambda s: ([{k: s[k] for k in list(s)[1:]}], s), "differ in 1 keys"),
        (
            lambda s: ([{k: v[:1] if k.endswith("lora_A") else v for k, v in s.items()}], s),
            "has shape",
        ),
    ],
)
def test_what_cannot_be_averaged(build, shake, trained_state, change, message):
    state = states(build, shake, trained_state)[0][1]
    with pytest.raises(ValueError, match=message):
        average_states(*change(state))
