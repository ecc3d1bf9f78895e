"""The demo at its reduced scale: the report stands, and a second run skips what is done."""

import json
import re
import time

import pytest

from espnet_blora.data import kaldi

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3000)]
SETS = ("test_cs", "ret_en", "ret_zh")


@pytest.fixture(scope="module")
def demo(checkout):
    done = checkout.run("python3", "local/demo.py", SCALE="ci")
    assert done.returncode == 0, done.stdout[-8000:]
    return checkout


def test_every_adapter_has_a_hypothesis_and_a_score_for_every_utterance(demo):
    for adapter in ("none", "lora", "blora"):
        for name in SETS:
            decoded = demo.recipe / "exp_ci" / f"asr_{adapter}_demo" / "decode" / name
            reference = kaldi.read_keyed(demo.recipe / "dump" / "ci" / "raw" / name / "text")
            assert len(reference) == 10
            assert set(kaldi.read_keyed(decoded / "text")) == set(reference)
            score = json.loads((decoded / "score_blora" / "score.json").read_text())
            assert score, decoded


def test_the_report_has_figures(demo):
    page = (demo.recipe / "exp_ci" / "retention.md").read_text()
    for word in ("BLoRA", "LoRA", *SETS):
        assert word.lower() in page.lower()
    assert len(re.findall(r"\d+\.\d", page)) > 20
    assert "decode/test_cs" in (demo.recipe / "exp_ci" / "RESULTS.md").read_text()
    assert list((demo.recipe / "exp_ci").glob("**/*.png"))


def test_the_adapters_trained_and_the_base_did_not(demo):
    experiments = demo.recipe / "exp_ci"
    for adapter in ("lora", "blora"):
        assert (experiments / f"asr_{adapter}_demo" / "2epoch.pth").is_file()
        assert (experiments / f"asr_{adapter}_demo" / "scale_sweep.json").is_file()
    assert not list((experiments / "asr_none_demo").glob("*epoch.pth"))


def test_a_second_run_skips_everything(demo):
    started = time.monotonic()
    again = demo.run("python3", "local/demo.py", SCALE="ci")
    assert again.returncode == 0, again.stdout[-3000:]
    assert time.monotonic() - started < 20
    steps = re.findall(r"^\[(\d+)/(\d+)\] (.*)$", again.stdout, re.MULTILINE)
    assert [int(number) for number, _, _ in steps] == list(range(1, int(steps[0][1]) + 1))
    assert all(text.endswith("done before") for _, _, text in steps)
