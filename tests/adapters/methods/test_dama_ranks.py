import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from espnet_blora.adapters.methods.dama import Place, places, u_shape

LARGE = "32 29 26 23 20 17 14 11 8 8 8 8 8 8 8 8 8 8 8 8 8 8 10 13 15 18 20 22 25 27 30 32"


def test_the_published_ranks_of_32_layers():
    ranks = u_shape(32, 32, 8)
    assert " ".join(str(own.rank) for own in ranks) == LARGE
    assert [n for n, own in enumerate(ranks, 1) if own.middle] == list(range(10, 22))


@pytest.mark.parametrize(
    ("depth", "thetas", "expected"),
    [
        (1, {}, "32"),
        (2, {}, "8 32"),
        (3, {}, "8* 8 32"),
        (4, {}, "32 8 20 32"),  # tiny, large-v3-turbo: no middle
        (6, {}, "32 8* 8* 8 20 32"),
        (10, {}, "32 20 8 8* 8* 8* 8 16 24 32"),  # 0.3 * 10 and 0.7 * 10 are whole
        (3, {"theta1": 0.34, "theta2": 1.0}, "32 8* 32"),
        (4, {"theta1": 0.0, "theta2": 1.0}, "8* 8* 8* 32"),
        (4, {"theta1": 0.5, "theta2": 0.5}, "32 8 20 32"),
    ],
)
def test_shallow_stacks(depth, thetas, expected):
    ranks = u_shape(depth, 32, 8, **thetas)
    assert " ".join(f"{own.rank}{'*' if own.middle else ''}" for own in ranks) == expected


@given(
    st.integers(1, 60), st.integers(1, 64), st.integers(0, 64), st.tuples(*[st.floats(0, 1)] * 2)
)
def test_every_stack_has_a_u_of_ranks_in_range(depth, low, span, thetas):
    theta1, theta2 = sorted(thetas)
    ranks = u_shape(depth, low + span, low, theta1, theta2)
    values = [own.rank for own in ranks]
    assert len(values) == depth
    assert values[-1] == low + span or theta1 > 0.99  # all layers are early: no second arm
    assert all(low <= value <= low + span for value in values)
    assert all(own.rank == low for own in ranks if own.middle)
    bottom = values.index(min(values))
    assert values[:bottom] == sorted(values[:bottom], reverse=True)


NAMES = {
    "decoder.decoders.blocks.1.cross_attn.query": Place("decoder", "decoder.decoders.blocks", 1, 2),
    "encoder.encoders.blocks.0.mlp.2": Place("encoder", "encoder.encoders.blocks", 0, 1),
    "decoder.blocks.1.attn.out": Place("decoder", "decoder.blocks", 1, 2),
    "decoder.decoders.1.self_attn.linear_q": Place("decoder", "decoder.decoders", 1, 2),
    "asr.decoder.layers.1.fc1": Place("decoder", "asr.decoder.layers", 1, 2),
    "encoder.encoders.0.feed_forward.w_1": Place("encoder", "encoder.encoders", 0, 1),
    "decoder.embed.1": "decoder",  # a number, but of no layer
    "decoder.output_layer": "decoder",
    "decoder": "decoder",
    "ctc.ctc_lo": None,
    "my_decoder.blocks.1.attn.out": None,
}


def nested(names):
    model = nn.Module()
    for name in names:
        module = model
        for part in name.split("."):
            if part not in module._modules:
                module.add_module(part, nn.Module())
            module = module._modules[part]
    return model


@pytest.mark.parametrize("name", NAMES)
def test_the_place_of_a_module_is_read_from_its_name(name):
    shallower = name.replace(".1.", ".0.")
    assert places(nested([shallower, name]), [name]) == {name: NAMES[name]}


def test_the_depth_counts_layers_without_targets():
    model = nested([f"decoder.blocks.{i}.attn" for i in range(12)])
    assert places(model, ["decoder.blocks.3.attn"])["decoder.blocks.3.attn"].depth == 12
