"""The program that estimates Fisher information: from a base to a file that lora_ewc takes."""

import json

import pytest
import torch
from safetensors import safe_open

from espnet_blora.bin import fisher
from tests import experiments
from tests.plugin.tiny import shared


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Return the tiny experiment's data and the folder of its base."""
    experiment = shared(tmp_path_factory)
    folder = tmp_path_factory.mktemp("base") / "asr_none"
    return experiment, experiments.experiment(folder, str(experiment.whisper))[0]


def run(base, *extra):
    experiment, exp = base
    return fisher.main(
        ["--asr_exp", str(exp), "--dump", str(experiment.folder), "--threads", "1", *extra]
    )


def test_a_file_for_lora_ewc(base, capsys, tmp_path):
    from espnet_blora import add_adapter
    from espnet_blora.decoding import open_experiment

    assert run(base, "--sets", "train", "valid", "--target_modules", "query mlp.0") == 0
    path = base[1] / "fisher.safetensors"
    report = capsys.readouterr().out
    # encoder: 1 query, 1 mlp.0; decoder: 2 queries (cross-attention) and 1 mlp.0
    assert f"{path}: 5 matrices, {3 * 16 * 16 + 2 * 16 * 64:,} weights, 0.0 MB" in report
    assert "11 utterances, " in report and report.count("decoder.decoders.blocks.0.") == 3
    model = open_experiment(base[1], packed=False).as_trained()
    conf = {"rank": 2, "target_modules": ["query"], "fisher_file": str(path)}
    adapter = add_adapter(model, "lora_ewc", **conf)
    with torch.no_grad():
        for layer in adapter.layers.values():
            layer.lora_B.normal_()
    assert float(adapter.loss_terms()[0].detach()) > 0

    some = tmp_path / "some"
    for labels in ("text", "sampled"):
        run(base, "--sets", "train", "--utterances", "3", "--labels", labels, "--output", str(some))
        with safe_open(some, framework="pt") as file:
            description = json.loads(file.metadata()["espnet_blora_fisher"])
        assert description["utterances"] == 3
        assert description["about"] == {"sets": ["train"], "labels": labels, "seed": 0}


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--sets", "none"], r"none: no such set; there are train, valid"),
        (["--sets", "train", "--utterances", "0"], "0 utterances of each set are asked for"),
        (["--sets", "train", "--target_modules", "querry"], "'querry' names no module; did you"),
        (["--sets", "train", "--asr_exp", "nowhere"], "nowhere/config.yaml: no such file"),
    ],
)
def test_mistakes_are_one_line(base, mistake, extra, message):
    assert message in mistake("fisher", run, base, *extra)


def test_an_adapted_experiment_is_refused(base, mistake, tmp_path):
    experiment, _ = base
    adapted, _ = experiments.experiment(tmp_path, str(experiment.whisper), "blora")
    message = mistake("fisher", run, (experiment, adapted), "--sets", "train")
    assert "is adapted ('blora'); Fisher information is that of the base" in message
