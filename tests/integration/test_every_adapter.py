"""Every adapter method trains on mini_cs's base with mini_cs's settings, in ESPnet's own trainer.

One process, a few steps each; three methods go through all stages elsewhere.
"""

import math
import re

import pytest
import torch

from espnet_blora.adapters import METHODS
from espnet_blora.adapters.fisher import Fisher, save_fisher
from espnet_blora.adapters.moments import new_sums
from espnet_blora.adapters.targets import find_targets
from espnet_blora.bin import make_config, report
from espnet_blora.decoding import open_experiment
from espnet_blora.scoring import score
from espnet_blora.whisper.checkpoint import load_whisper
from tests.integration.conftest import EGS2, TINY
from tests.plugin.tiny import Experiment

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]
CONF = EGS2 / "mini_cs" / "asr1" / "conf"


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    found = Experiment(tmp_path_factory.mktemp("every"))
    found.whisper = TINY
    return found


def settings(method, folder):
    """The recipe's own configuration of a method, for two short epochs."""
    conf = make_config.load(CONF / f"adapter_{method}.yaml")
    conf["max_epoch"] = 2
    if method == "lora_ewc":
        conf["adapter_conf"]["fisher_file"] = str(fisher_of_ones(folder, conf["adapter_conf"]))
    if method == "lora_keep":
        conf["adapter_conf"]["keep_file"] = str(flat_moments(folder, conf["adapter_conf"]))
    if method == "adalora":  # the recipe's figure is for its 418 steps
        few = {"total_steps": 4, "warmup_steps": 1, "final_steps": 1, "interval": 1}
        conf["adapter_conf"] |= few
    return conf


def fisher_of_ones(folder, conf):
    """A Fisher file of the tiny base in which every weight matters alike."""
    model = load_whisper(str(TINY))
    weights = {  # by the names they have inside ESPnet's model
        re.sub(r"^(en|de)coder\.", r"\1coder.\1coders.", name) + ".weight": linear.weight.detach()
        for name, linear in find_targets(model, conf["target_modules"]).items()
    }
    ones = Fisher({name: torch.ones_like(w) for name, w in weights.items()}, 1, 1)
    save_fisher(folder / "fisher.safetensors", ones, weights, {"sets": "none: all ones"})
    return folder / "fisher.safetensors"


def flat_moments(folder, conf):
    """A file of moments of the tiny base in which old inputs lie in all directions alike."""
    model = load_whisper(str(TINY))
    names = {  # as above
        re.sub(r"^(en|de)coder\.", r"\1coder.\1coders.", name): linear.weight.detach()
        for name, linear in find_targets(model, conf["target_modules"]).items()
    }
    made = {"through": "base", "pad_to": "batch"}
    weights = {f"{name}.weight": weight for name, weight in names.items()}
    sums = new_sums(weights, {name: name for name in names}, made)
    for name, weight in names.items():
        sums.add(name, torch.eye(weight.shape[1]), 1)
    sums.heard["old"] = 1.0
    sums.export(folder / "keep.moments", {})
    return folder / "keep.moments"


@pytest.mark.parametrize("method", sorted(METHODS))
def test_it_trains(experiment, method):
    folder = experiment.train_here(f"every_{method}", **settings(method, experiment.folder))
    stats = torch.load(folder / "checkpoint.pth")["reporter"]["stats"]
    assert all(math.isfinite(stats[epoch]["train"]["loss"]) for epoch in (1, 2))
    first, second = (torch.load(folder / f"{epoch}epoch.pth") for epoch in (1, 2))
    assert first.keys() == second.keys()
    moved = [k for k in first if not torch.equal(first[k], second[k])]
    assert [k for k in moved if ".blocks." in k], "no factor has moved"
    assert all(torch.isfinite(v).all() for v in second.values() if v.is_floating_point())
    # what stage 12 does: the checkpoint goes into a fresh model, checked
    adapter = open_experiment(folder, merge=False).adapter
    assert adapter.method == method
    with torch.no_grad():
        shift = max(layer.delta_weight().abs().max() for layer in adapter.layers.values())
    assert 0 < shift < float("inf")


def test_the_report_lists_them_all(experiment):
    """Runs after the trainings above, whose experiments it reads."""
    ref = {f"u{n}": f"word {n} apple" for n in range(6)}
    names = {m: f"every_{m}" for m in sorted(METHODS)}
    for n, name in enumerate(names.values()):
        hyp = {key: text if int(key[1]) > n % 4 else "word" for key, text in ref.items()}
        for dset in ("new", "old"):
            folder = experiment.folder / name / "decode" / dset
            score(ref, hyp).save(folder / "score_blora" / "score.json")
    sets = ["--test_sets", "new", "--retention_sets", "old"]
    assert report.main([*names.values(), "--exp", str(experiment.folder), *sets]) == 0
    for page in ("retention.md", "retention.html", "retention.csv"):
        text = (experiment.folder / page).read_text(encoding="utf-8")
        missing = [m for m, name in names.items() if name not in text]
        assert not missing, (page, missing)
