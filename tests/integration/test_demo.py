"""The demo at its reduced scale: the report stands, and a second run skips what is done."""

import json
import re

import pytest
import torch

from espnet_blora.utils.keyed import read_keyed
from tests.integration.conftest import Checkout, copy_recipe

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3000)]
SIZES = {"test_noisy": 25, "ret_en": 50, "ret_zh": 50}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    top = tmp_path_factory.mktemp("checkout")
    copy_recipe("mini_cs", top)
    checkout = Checkout(top, "mini_noisy")
    done = checkout.run("python3", "local/demo.py", SCALE="ci")
    assert done.returncode == 0, done.stdout[-8000:]
    return checkout


def test_every_adapter_has_a_hypothesis_and_a_score_for_every_utterance(demo):
    systems = [(name, "decode") for name in ("none", "lora", "blora", "lora_keep")]
    for adapter, way in [*systems, ("lora", "decode_repair0.5")]:
        for name, size in SIZES.items():
            decoded = demo.recipe / "exp_ci" / f"asr_{adapter}_demo" / way / name
            reference = read_keyed(demo.recipe / "dump" / "ci" / "raw" / name / "text")
            assert len(reference) == size
            assert set(read_keyed(decoded / "text")) == set(reference)
            score = json.loads((decoded / "score_blora" / "score.json").read_text())
            assert score, decoded


def test_the_report_has_figures(demo):
    page = (demo.recipe / "exp_ci" / "retention.md").read_text()
    for word in ("BLoRA", "LoRA", "lora_keep", *SIZES):
        assert word.lower() in page.lower()
    assert len(re.findall(r"\d+\.\d", page)) > 20
    assert "Does it know when it is wrong?" in page
    assert "no verdict on BLoRA against LoRA" in page  # of one training seed each
    assert "decode/test_noisy" in (demo.recipe / "exp_ci" / "RESULTS.md").read_text()
    assert list((demo.recipe / "exp_ci").glob("**/*.png"))


def test_the_adapters_trained_and_the_base_did_not(demo):
    experiments = demo.recipe / "exp_ci"
    for adapter in ("lora", "blora", "lora_keep"):
        folder = experiments / f"asr_{adapter}_demo"
        log = (folder / "train.log").read_text()
        losses = re.findall(r"epoch results: \[train\].*?\bloss=([\d.e+-]+)", log)
        assert len(losses) == 3
        assert float(losses[-1]) < 0.9 * float(losses[0]), losses
        assert ("retain_distillation=" in log) is (adapter == "lora_keep")
        state = torch.load(folder / "valid.acc.best.pth")
        ups = [value for key, value in state.items() if key.endswith("lora_B")]
        assert ups and min(up.abs().max().item() for up in ups) > 1e-3
        sweep = json.loads((folder / "scale_sweep.json").read_text())
        assert {row["scale"] for row in sweep} == {0, 0.7, 1}
        texts = [(folder / "scale_sweep" / s / "test_noisy" / "text").read_text() for s in "01"]
        assert texts[0] != texts[1], "the adapter changes nothing that is heard"
    assert not list((experiments / "asr_none_demo").glob("*epoch.pth"))


def test_a_second_run_skips_everything(demo):
    again = demo.run("python3", "local/demo.py", SCALE="ci")
    assert again.returncode == 0, again.stdout[-3000:]
    steps = re.findall(r"^\[(\d+)/(\d+)\] (.*)$", again.stdout, re.MULTILINE)
    assert [int(number) for number, _, _ in steps] == list(range(1, int(steps[0][1]) + 1))
    assert all(text.endswith("done before") for _, _, text in steps)
