"""`retain:`: what the base says of old audio, in ESPnet's own batches."""

import copy
import itertools
from argparse import Namespace

import pytest
import torch

from espnet_blora.adapters import get_adapter
from espnet_blora.plugin.model import smoothed_cross_entropy
from espnet_blora.plugin.retain import OldAudio, Retain, RetainedFactory, distillation
from tests.plugin.test_training import LORA, NOISY, same, states
from tests.plugin.tiny import TRAIN, Experiment, config, data_dir

TRAINING = {"use_adapter": True, "adapter": "lora", "decoder": "whisper"}
TRAINING |= {"model_conf": {"length_normalized_loss": True}}


def block(**changes):
    return Namespace(**{**TRAINING, "retain": {"data": "old", **changes}})


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return Experiment(tmp_path_factory.mktemp("retain"))


@pytest.fixture(scope="module")
def old(experiment):
    return str(data_dir(experiment.folder / "old", 5, 7))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (block(wieght=1.0), r"'wieght' is unknown; allowed are data, kind.*'weight'"),
        (block(data=3), r"data is 3; give the directory that espnet-blora pseudo_label"),
        (block(kind="kl"), r"kind is 'kl'; allowed: distillation, replay"),
        (block(every=0), r"every is 0; allowed: a whole number >= 1"),
        (block(weight=-1), r"weight is -1; allowed: a number >= 0"),
        (block(batch_size=1.5), r"batch_size is 1\.5; allowed: a whole number"),
    ],
)
def test_an_option_that_is_wrong_is_named(args, message):
    with pytest.raises(ValueError, match=message):
        Retain.of(args)


@pytest.mark.parametrize(
    "changes",
    [{"use_adapter": False}, {"adapter": "houlsby"}, {"decoder": "transformer"}],
)
def test_a_training_without_a_base_beside_it_is_refused(changes):
    args = Namespace(**{**TRAINING, "retain": {"data": "old"}, **changes})
    with pytest.raises(ValueError, match="needs an adapter of this plugin's"):
        Retain.of(args)
    args = Namespace(**{**TRAINING, "retain": {"data": "old"}, "model_conf": {}})
    with pytest.raises(ValueError, match="length_normalized_loss: true"):
        Retain.of(args)
    assert Retain.of(Namespace(**TRAINING)) is None


def batches(size, count=10, share=(0, 1), seed=0):
    return OldAudio({}, list, [f"u{i}" for i in range(count)], size, seed, share)


def test_old_batches_are_a_function_of_their_number_and_shared_by_ranks():
    whole = batches(4)
    first = [whole.ids(number) for number in range(6)]
    assert first == [batches(4).ids(number) for number in range(6)]
    assert first != [batches(4, seed=1).ids(number) for number in range(6)]
    for one, two in itertools.batched(first, 2):  # a turn: 8 of 10, none twice
        assert len({*one, *two}) == 8
    assert {uid for ids in first for uid in ids} == set(whole.utterances)
    shares = [batches(4, share=(rank, 2)).ids(3) for rank in (0, 1)]
    assert sorted(shares[0] + shares[1]) == sorted(first[3]) and len(shares[0]) == 2
    assert len(batches(4, count=3).ids(0)) == 3
    with pytest.raises(ValueError, match="batches of 1 utterances for 2 processes"):
        batches(4, count=1, share=(0, 2))


def test_an_epoch_goes_on_where_the_one_before_ended():
    class Factory:
        def build_iter(self, epoch, shuffle=None):
            return [([f"{epoch}{i}"], {"speech": i}) for i in range(5)]

    old = batches(2)
    old.batch = lambda number: {"speech": f"old {number}"}
    factory = RetainedFactory(Factory(), old, 4)
    rode = [
        batch.get("retain_speech") for epoch in (1, 2) for _, batch in factory.build_iter(epoch)
    ]
    assert rode == ["old 0", None, None, None, "old 1", None, None, None, "old 2", None]
    assert len(factory.build_iter(1)) == 5


@pytest.mark.parametrize(("kind", "adapter"), [("distillation", NOISY), ("replay", LORA)])
def test_a_resumed_training_has_the_same_bits(experiment, old, kind, adapter):
    retain = {"data": old, "kind": kind, "every": 1, "weight": 2.0, "batch_size": 2}
    name = f"{kind}_whole"
    whole = experiment.train_here(name, **adapter, retain=retain)
    parts = experiment.train_here(f"{kind}_parts", **adapter, retain=retain, max_epoch=1)
    experiment.train_here(f"{kind}_parts", **adapter, retain=retain)
    checkpoint, last = states(whole)
    stats = checkpoint["reporter"]["stats"]
    for mine, theirs in zip(states(parts), (checkpoint, last), strict=True):
        mine.pop("reporter", None)  # holds times
        theirs.pop("reporter", None)
        assert same(mine, theirs) > 10
    # ESPnet's own statistics are of the new domain; the term is beside them, in training only
    train, valid = stats[2]["train"], stats[2]["valid"]
    assert train["loss"] == pytest.approx(train["loss_att"])
    assert train[f"retain_{kind}"] > 0 and f"retain_{kind}" not in valid
    assert last["adapter_state.step"].item() == 2 * TRAIN // 2
    # without the block the training is another one, and so it is with other texts
    plain = experiment.train_here(f"{kind}_plain", **adapter)
    assert any(not torch.equal(v, last[k]) for k, v in torch.load(plain / "2epoch.pth").items())
    with pytest.raises(ValueError, match="retain"):
        experiment.train_here(name, **adapter, max_epoch=3)


def test_a_directory_that_lacks_a_file_is_refused(experiment):
    with pytest.raises(ValueError, match=r"gone/wav\.scp is not there; .*pseudo_label"):
        experiment.train_here("gone", **LORA, retain={"data": "gone"})


@pytest.mark.parametrize("kind", ["distillation", "replay"])
def test_the_term_by_hand(experiment, old, kind):
    """loss = new + accum_grad x weight x term, with the base from a model without adapter."""
    from espnet2.tasks.asr import ASRTask

    from espnet_blora import plugin

    plugin.register(whisper=str(experiment.whisper))
    retain = {"data": old, "kind": kind, "weight": 3.0}
    changes = {**LORA, "retain": retain, "adapter_conf": {"rank": 4, "target_modules": ["query"]}}
    args = ASRTask.get_parser().parse_args(experiment.arguments("hand", **changes))
    args.token_list = experiment.tokens.read_text().split("\n")[:-1]
    model = ASRTask.build_model(args)
    base = copy.deepcopy(model)
    from espnet2.layers.create_adapter import create_adapter

    create_adapter(model, args.adapter, args.adapter_conf)
    generator = torch.Generator().manual_seed(0)
    for name, factor in get_adapter(model).factors().items():
        if name.endswith("lora_B"):
            factor.data.normal_(generator=generator)
    # a batch of each
    text = torch.tensor([[50259, 50359, 50363, 31373, 995], [50259, 50359, 50363, 11274, -1]])
    new, past = (
        {
            "speech": torch.randn(2, 8000, generator=generator),
            "speech_lengths": torch.tensor([8000, 6000]),
            "text": text,
            "text_lengths": torch.tensor([5, 4]),
        }
        for _ in range(2)
    )
    model.train()
    with_old = {**new, **{f"retain_{name}": value for name, value in past.items()}}
    loss, stats, _ = model(**with_old)
    alone, plain, _ = model(**new)
    assert model.retained == (kind, 3.0 * config()["accum_grad"])
    assert stats["loss"] == plain["loss"]
    logits = []
    for one in (model, base.train()):
        memory, lengths = one.encode(past["speech"], past["speech_lengths"])
        logits.append(one._text_logits(memory, lengths, text, past["text_lengths"])[0])
    targets = torch.tensor([31373, 995, 50257, 11274, 50257])
    term = distillation(*logits)
    assert term > 0.01
    if kind == "replay":
        term = smoothed_cross_entropy(logits[0], targets, 0.1) / 5
    torch.testing.assert_close(loss, alone + 6.0 * term)
    assert stats[f"retain_{kind}"].item() == pytest.approx(float(term), rel=1e-5)
