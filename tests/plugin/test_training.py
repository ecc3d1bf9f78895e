"""ESPnet's real trainer with our adapters: what it trains, saves, resumes and refuses."""

import math
import re
import resource
import shutil
from types import SimpleNamespace

import pytest
import torch
import yaml
from espnet2.tasks.asr import ASRTask
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from espnet_blora.adapters.moments import new_sums
from espnet_blora.decoding.recogniser import open_experiment, open_whisper
from espnet_blora.plugin import resume
from espnet_blora.utils.mistakes import users_mistake
from tests.plugin.tiny import BLORA, TRAIN, shared

LORA = {
    "use_adapter": True,
    "adapter": "lora",
    "adapter_conf": {"rank": 4, "dropout_rate": 0.3, "target_modules": ["query", "value"]},
    "save_strategy": "required_grad_only",
}
NOISY = {**BLORA, "adapter_conf": {**BLORA["adapter_conf"], "dropout_rate": 0.3}}


def states(folder):
    checkpoint = torch.load(folder / "checkpoint.pth")
    return checkpoint, torch.load(folder / "2epoch.pth")


def same(one, two, path=""):
    """Compare nested states bit for bit; returns how many tensors there were."""
    if torch.is_tensor(one):
        assert torch.equal(one, two), path
        return 1
    if isinstance(one, dict):
        assert one.keys() == two.keys(), path
        return sum(same(one[key], two[key], f"{path}.{key}") for key in one)
    if isinstance(one, (list, tuple)):
        assert len(one) == len(two), path
        return sum(same(a, b, f"{path}[]") for a, b in zip(one, two, strict=True))
    assert one == two, path
    return 0


@pytest.fixture(scope="session")
def experiment(tmp_path_factory):
    return shared(tmp_path_factory)


@pytest.fixture(scope="module")
def whole(experiment):
    """Two epochs of blora in one go."""
    return experiment.train_here("whole", **NOISY)


def test_blora_alone_descends_the_negative_elbo(whole):
    stats = torch.load(whole / "checkpoint.pth")["reporter"]["stats"]
    for epoch in (1, 2):
        train, valid = stats[epoch]["train"], stats[epoch]["valid"]
        wanted = {"loss", "acc", "neg_elbo", "kl_A", "kl_B", "beta", "kl_term"}
        assert wanted <= train.keys()
        assert {"sigma_A_q50", "mean_norm_A", "small_share_A", "small_share_B"} <= train.keys()
        assert train["beta"] == pytest.approx(0.5)
        # `loss` stays the cross entropy; the ELBO stands beside it, in training only.
        assert train["neg_elbo"] == pytest.approx(train["loss"] + train["kl_term"], rel=1e-4)
        assert train["loss"] == pytest.approx(train["loss_att"])
        assert train["kl_term"] > 1
        assert not {"neg_elbo", "kl_A", "kl_term"} & valid.keys()
        assert valid["loss"] < train["neg_elbo"]
    # The KL is descended: it falls, and faster than the cross entropy could make it.
    assert stats[2]["train"]["kl_A"] < 0.9 * stats[1]["train"]["kl_A"]


def test_the_reported_loss_does_not_depend_on_accum_grad(experiment):
    still = {"optim_conf": {"lr": 0.0}, "max_epoch": 1}
    losses = []
    for name, accum in (("one", 1), ("four", 4)):
        folder = experiment.train_here(f"accum_{name}", **still, accum_grad=accum)
        losses.append(torch.load(folder / "checkpoint.pth")["reporter"]["stats"][1])
    assert losses[0]["train"]["loss"] == pytest.approx(losses[1]["train"]["loss"], rel=1e-5)
    assert losses[1]["train"]["loss"] == pytest.approx(losses[1]["valid"]["loss"], rel=0.2)


def test_curves_of_short_epochs_hold_no_nan(experiment):
    """Statistics come every 100 steps, an epoch has 4: the second one has none."""
    conf = {**BLORA["adapter_conf"], "log_every": 100}
    changes = {"adapter_conf": conf, "use_tensorboard": True, "log_interval": 2}
    folder = experiment.train_here("curves", **{**BLORA, **changes})
    curves = EventAccumulator(str(next((folder / "tensorboard" / "train").iterdir())))
    curves.Reload()
    points = {name: curves.Scalars(name) for name in curves.Tags()["scalars"]}
    assert {event.step for event in points["sigma_A_q50"]} == {2, TRAIN // 2}
    assert {event.step for event in points["kl_A"]} == {2, 4, 6, 8}
    assert all(math.isfinite(event.value) for events in points.values() for event in events)


def test_a_checkpoint_holds_what_trains_and_the_buffers(whole):
    checkpoint, last = states(whole)
    assert {name.rpartition(".")[2] for name in last} >= {"lora_A", "lora_B", "rho_A", "step"}
    assert not any(name.endswith(("query.weight", "token_embedding.weight")) for name in last)
    assert last["adapter_state.step"].item() == 2 * TRAIN // 2
    assert same(checkpoint["model"], last) == len(last)
    config = yaml.safe_load((whole / "config.yaml").read_text())
    assert config["exclude_weight_decay"] is True
    groups = checkpoint["optimizers"][0]["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0.01, 0.0]
    assert len(groups[1]["params"]) >= sum(name.endswith("rho_A") for name in last)


def test_the_base_is_not_trained(experiment, whole):
    model, _ = ASRTask.build_model_from_file(whole / "config.yaml", whole / "2epoch.pth")
    from espnet_blora.whisper.checkpoint import load_whisper

    base = load_whisper(str(experiment.whisper)).state_dict()
    for part in ("encoder", "decoder"):
        for name, value in getattr(model, part).state_dict().items():
            key = name.replace(f"{part}s.", f"{part}.", 1)
            if key in base:
                assert torch.equal(value, base[key]), name
    assert sum(key.startswith("decoder.") for key in base) > 10


@pytest.mark.parametrize(("name", "adapter"), [("blora", NOISY), ("lora", LORA), ("full", {})])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(experiment, whole, name, adapter):
    if name != "blora":
        whole = experiment.train_here(f"whole_{name}", **adapter)
    parts = experiment.train_here(f"parts_{name}", **adapter, max_epoch=1)
    before = (parts / "config.yaml").read_bytes()
    experiment.train_here(f"parts_{name}", **adapter)
    assert (parts / "config.yaml").read_bytes() != before  # max_epoch may change
    for mine, theirs in zip(states(parts), states(whole), strict=True):
        mine.pop("reporter", None)  # holds times
        theirs.pop("reporter", None)
        assert same(mine, theirs) > 10


@pytest.fixture(scope="module")
def moments_of(experiment, whole):
    """Make a file of moments for the Linears that `whole` adapts, and return its path."""
    model, _ = ASRTask.build_model_from_file(whole / "config.yaml", whole / "2epoch.pth")
    weights = dict(model.named_parameters())
    names = [k.removesuffix(".lora_A") for k in torch.load(whole / "2epoch.pth") if "lora_A" in k]

    def make(name, weights=weights, layers=names, factor=1.0, **made):
        made = {"pad_to": "batch", "through": "base", **made}
        sums = new_sums(weights, {layer: layer for layer in layers}, made)
        for layer in layers:
            weight = weights[f"{layer}.weight"].detach()
            sums.add(layer, factor * weight.T @ weight, 1)
            if made.get("nan"):
                sums.sums[layer][0, 0] = torch.inf
        sums.heard["old"] = 90.0
        sums.export(experiment.folder / name, {})
        return str(experiment.folder / name)

    return SimpleNamespace(make=make, weights=weights, names=names)


def with_old_audio(method, file):
    """The yaml of a training that knows old audio."""
    prior = {"prior": "moments"} if method == "blora" else {}
    common = LORA["adapter_conf"] | {"keep_file": file}
    return {**LORA, "adapter": method, "adapter_conf": common | prior}


@pytest.mark.parametrize("method", ["lora_keep", "blora"])
def test_training_that_knows_old_audio_resumes_bit_for_bit(experiment, moments_of, method):
    file = moments_of.make(f"old_{method}")
    settings = with_old_audio(method, file)
    whole = experiment.train_here(f"whole_old_{method}", **settings)
    parts = experiment.train_here(f"parts_old_{method}", **settings, max_epoch=1)
    experiment.train_here(f"parts_old_{method}", **settings)
    for mine, theirs in zip(states(parts), states(whole), strict=True):
        mine.pop("reporter", None)  # holds times
        theirs.pop("reporter", None)
        assert same(mine, theirs) > 10
    # not with other old audio under the same name
    moments_of.make(f"old_{method}", factor=2.0)
    with pytest.raises(ValueError, match=r"old_data\.keep_file: '.*' -> '") as caught:
        experiment.train_here(f"parts_old_{method}", **settings, max_epoch=3)
    assert users_mistake(caught.value)


@pytest.mark.parametrize("method", ["lora_keep", "blora"])
def test_old_audio_that_does_not_fit_is_one_line(experiment, moments_of, method):
    others = {name: weight + 0.1 for name, weight in moments_of.weights.items()}
    for number, (made, message) in enumerate((
        ({"weights": others}, "wrong base: "),
        ({"layers": moments_of.names[1:]}, "lacks 1 of "),
        ({"nan": True}, "holds NaN or inf; make it with"),
        ({"through": "adapted"}, "was heard by the adapted model"),
        ({"pad_to": "30s"}, "padded to '30s', this model pads to 'batch'"),
        (None, "does not exist; make it with"),
    )):  # fmt: skip
        name = f"unfit_{method}{number}"
        file = moments_of.make(name, **made) if made else "gone.moments"
        with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
            experiment.train_here(f"refused_{name}", **with_old_audio(method, file))
        assert "\n" not in users_mistake(caught.value)
        assert not list((experiment.folder / f"refused_{name}").glob("*.pth"))


def test_a_full_disk_stops_the_training_and_loses_nothing(experiment):
    """A limit on the size of files stands for the disk: config.yaml fits, a checkpoint not."""
    folder = experiment.train_here("disk", max_epoch=1)
    before = {path.name: path.read_bytes() for path in folder.glob("*.pth")}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, limits[1]))
        with pytest.raises(OSError, match=r"could not write .*checkpoint\.pth.*intact.*resumes"):
            experiment.train_here("disk")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name: path.read_bytes() for path in folder.glob("*.pth")} == before
    experiment.train_here("disk")
    assert (folder / "2epoch.pth").is_file() and not list(folder.glob(".*tmp*"))


def test_a_second_run_of_the_same_experiment_is_refused(experiment, whole):
    with resume.only_run(whole), pytest.raises(ValueError, match="in use by another run"):
        experiment.train_here("whole", **NOISY)


def test_mixed_precision_runs(experiment):
    folder = experiment.train_here("amp", **BLORA, use_amp=True, max_epoch=1)
    stats = torch.load(folder / "checkpoint.pth")["reporter"]["stats"][1]["train"]
    assert stats["neg_elbo"] == pytest.approx(stats["loss"] + stats["kl_term"], rel=1e-4)


def test_a_lost_epoch_is_rebuilt_and_the_run_goes_on(experiment, whole):
    folder = experiment.train_here("lost", **NOISY, max_epoch=1)
    (folder / "1epoch.pth").unlink()
    (folder / "latest.pth").unlink()
    experiment.train_here("lost", **NOISY)
    assert same(torch.load(folder / "2epoch.pth"), torch.load(whole / "2epoch.pth")) > 10
    assert (folder / "valid.acc.ave_2best.pth").is_file()


def test_averages_keep_scales_and_buffers_of_the_best(whole):
    best = torch.load(whole / "valid.acc.best.pth")
    averaged = torch.load(whole / "valid.acc.ave_2best.pth")
    both = [torch.load(whole / f"{epoch}epoch.pth") for epoch in (1, 2)]
    assert averaged.keys() == best.keys()
    moved = 0
    for key, value in averaged.items():
        if key.endswith(("lora_A", "lora_B")):
            mean = torch.stack([state[key].double() for state in both]).mean(0)
            torch.testing.assert_close(value.double(), mean)
            moved += not torch.equal(value, best[key])
        else:
            assert torch.equal(value, best[key]), key
    assert moved > 3


def test_a_changed_configuration_is_refused_and_nothing_is_touched(experiment, whole):
    before = {path.name: path.read_bytes() for path in whole.iterdir() if path.is_file()}
    changed = {**NOISY, "adapter_conf": {**NOISY["adapter_conf"], "beta": 0.1}, "seed": 5}
    with pytest.raises(ValueError, match="another configuration") as caught:
        experiment.train_here("whole", **changed, max_epoch=3)
    text = str(caught.value)
    assert "adapter_conf.beta: (absent) -> 0.1" in text and "seed: 0 -> 5" in text
    assert "2 keys differ" in text
    after = {path.name: path.read_bytes() for path in whole.iterdir() if path.is_file()}
    before.pop(".lock"), after.pop(".lock")
    assert after == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adapter": "blorra"}, r"adapter: 'blorra' is unknown.*did you mean 'blora'"),
        ({"save_strategy": "adapter_only"}, r"save_strategy: adapter_only.*required_grad_only"),
        ({"use_adapter": False}, r"use_adapter is false: every weight would be trained"),
        ({"use_deepspeed": True}, r"use_deepspeed: true does not work"),
        ({"adapter": "houlsby"}, r"houlsby is ESPnet's own, for frontend: s3prl only.*found"),
        ({"ngpu": 2}, r"ngpu: 2 in one process .*--multiprocessing_distributed true"),
        ({"adapter_conf": {"rnak": 4}}, r"unknown key 'rnak'.*'rank'"),
        ({"adapter_conf": {"target_modules": ["qurey"]}}, r"qurey.*query"),
        ({"model_conf": {"ctc_weight": 0.0}}, r"length_normalized_loss: true, found False"),
        ({"model_conf": {"length_normalized_loss": True}}, r"ctc_weight: 0.0, found 0.5"),
    ],
)
def test_a_configuration_that_would_train_something_else_is_refused(experiment, changes, message):
    from tests.plugin.tiny import config

    merged = {**BLORA, **changes}
    if "model_conf" in changes:
        merged["model_conf"] = {**config()["model_conf"], **changes["model_conf"]}
        for key in ("length_normalized_loss", "ctc_weight"):
            if key not in changes["model_conf"]:
                merged["model_conf"].pop(key)
    with pytest.raises(ValueError, match=message):
        experiment.train_here("refused", **merged)
    assert not (experiment.folder / "refused" / "config.yaml").exists()
    shutil.rmtree(experiment.folder / "refused", ignore_errors=True)


def test_the_command_line_knows_our_adapters_and_keeps_espnets(experiment):
    from espnet_blora import plugin

    plugin.register(whisper=str(experiment.whisper))
    parser = ASRTask.get_parser()
    for name in ("blora", "lora", "houlsby"):
        assert parser.parse_args(["--adapter", name]).adapter == name
    arguments = ["--adapter", "blora", "--adapter_conf", "rank=8", "--adapter_conf", "beta=0.1"]
    assert parser.parse_args(arguments).adapter_conf == {"rank": 8, "beta": 0.1}
    with pytest.raises(SystemExit):
        parser.parse_args(["--adapter", "blorra"])


@pytest.mark.parametrize("key", ["use_lora", "lora_conf"])
def test_an_old_yaml_is_told_the_new_names(experiment, key, tmp_path, capsys):
    from espnet_blora import plugin

    plugin.register(whisper=str(experiment.whisper))
    (tmp_path / "old.yaml").write_text(f"{key}: {{}}\n")
    for words in (["--config", str(tmp_path / "old.yaml")], [f"--{key}", "x"]):
        with pytest.raises(SystemExit):
            ASRTask.main(cmd=[*words, "--output_dir", str(tmp_path)])
        said = capsys.readouterr().err
        assert key in said and "use_adapter: true, adapter: lora" in said and "adapter_conf" in said


def test_statistics_are_collected_without_an_adapters_kl(experiment):
    extra = ["--collect_stats", "true"]
    folder = experiment.train_here("stats", extra, **BLORA)
    assert len((folder / "train" / "text_shape").read_text().splitlines()) == TRAIN
    assert not (folder / ".lock").exists()


def test_each_best_epoch_has_its_adapter_file(experiment):
    criteria = [["valid", "acc", "max"], ["valid", "loss", "max"]]  # the best epoch, and the worst
    folder = experiment.train_here("files", **BLORA, best_model_criterion=criteria)
    links = {key: folder / f"valid.{key}.best.pth" for key in ("acc", "loss")}
    assert links["acc"].resolve() != links["loss"].resolve()
    for link in links.values():
        state = torch.load(link)
        file = link.with_suffix(".safetensors")
        opened = open_whisper(str(experiment.whisper), file, merge=False)
        whole = open_experiment(folder)
        for known in ("pad_to", "language", "languages", "lengths"):
            assert getattr(opened, known) == getattr(whole, known), known
        assert opened.pad_to == "batch" and len(opened.languages) == 2 and opened.lengths.most > 0
        factors = opened.adapter.factors()
        assert len(factors) > 8
        for name, factor in factors.items():
            nested = re.sub("^(en|de)coder", r"\1coder.\1coders", name)  # ESPnet's
            assert torch.equal(factor, state[nested]), name
    plain = experiment.train_here("no_file", max_epoch=1)
    assert not list(plain.glob("*.safetensors"))
