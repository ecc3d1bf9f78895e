"""The program that probes each depth for the language: figures, plot, mistakes."""

import json

import pytest

from espnet_blora.bin import probe_depth
from tests.plugin.tiny import BLORA, shared


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    experiment = shared(tmp_path_factory)
    return experiment, experiment.train_here("for_probe", max_epoch=1, **BLORA)


def run(adapted, *extra):
    experiment, exp = adapted
    return probe_depth.main(
        [
            *("--asr_exp", str(exp), "--dump", str(experiment.folder), "--threads", "1"),
            *("--train_sets", "train", "--test_sets", "valid", "--seeds", "2", *extra),
        ]
    )


@pytest.mark.parametrize("reads", ["text", "start"])
def test_figures_of_an_adapted_model(adapted, capsys, caplog, reads):
    assert run(adapted, "--side", "both", "--reads", reads) == 0
    path = adapted[1] / "probe_depth.json"
    found = json.loads(path.read_text())
    assert [(row["side"], row["layer"]) for row in found["layers"]] == [
        ("encoder", 1), ("decoder", 1),
    ]  # fmt: skip
    assert all(len(row["accuracy"]) == 2 for row in found["layers"])
    said = found["conditions"]
    assert (said["adapter"], said["reads"], said["train_utterances"]) == ("blora", reads, 8)
    assert said["test_utterances"] == {"en": 2, "zh": 1} and said["chance"] == 2 / 3
    assert path.with_suffix(".png").stat().st_size > 5000
    assert "always the commonest language: 66.7 %" in capsys.readouterr().out
    assert "8 utterances are about 5 steps" in caplog.text


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--test_sets", "train"], "8 utterances are trained on and tested"),
        (["--train_sets", "train train"], "is in another set too"),
        (["--test_sets", "none"], "none/wav.scp"),
        (["--seeds", "0"], "--seeds 0: 1 or more"),
        (["--epochs", "0"], "probe: epochs is 0; allowed: above 0"),
    ],
)
def test_mistakes_are_one_line(adapted, mistake, extra, message):
    assert message in mistake("probe_depth", run, adapted, *extra)
