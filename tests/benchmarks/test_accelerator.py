"""make accelerator: what a CPU can run passes there, and the rest says why it is skipped."""

import json

import pytest

from benchmarks import accelerator
from benchmarks.accelerator import Bench, Result, Skipped, battery, page


def test_what_fails_stops_nothing_and_is_not_passed(tmp_path, monkeypatch):
    def wrong(bench):
        raise AssertionError("3 tensors differ\n\n| a | b |")

    def absent(bench):
        raise Skipped("no such device")

    checks = {"good": lambda bench: "all well", "wrong": wrong, "absent": absent}
    monkeypatch.setattr(accelerator, "CHECKS", checks)
    results = list(battery(Bench("cpu", True, tmp_path), list(checks)))
    assert [one.verdict for one in results] == ["passed", "failed", "skipped"]
    text = page([("GPU", "none")], results)
    assert "* GPU: none" in text and "| absent | skipped | no such device |" in text
    assert "| wrong | failed | 3 tensors differ |" in text and "## wrong\n\n| a | b |" in text


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_training_is_skipped_on_a_cpu(tmp_path, precision):
    (result,) = battery(Bench("cpu", True, tmp_path), [f"resume, {precision}"])
    assert result.verdict == "skipped" and "CUDA" in result.found


def test_a_memory_that_is_off_fails(tmp_path, monkeypatch):
    found = [("tiny, 2", "lora", 100e6, 109e6), ("tiny, 2", "blora", 100e6, 109e6)]
    monkeypatch.setattr(accelerator, "rows", lambda *_: found)
    (result,) = battery(Bench("cpu", True, tmp_path), ["memory"])
    assert result.verdict == "passed" and "| tiny, 2 | lora | 100 | 109 | 1.09 |" in result.found
    found.append(("tiny, 2", "dama", 100e6, 88e6))
    (result,) = battery(Bench("cpu", True, tmp_path), ["memory"])
    assert result.verdict == "failed" and result.found.startswith("12 % apart")


@pytest.mark.integration
def test_what_a_cpu_can_run_passes(tmp_path, monkeypatch):
    words = ["accelerator.py", "--device", "cpu", "--quick", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", words)
    monkeypatch.setenv("PYTHONPATH", str(accelerator.ROOT))  # of the programs that it starts
    with pytest.raises(SystemExit) as ended:
        accelerator.main()
    found = json.loads((tmp_path / "cpu.json").read_text())
    verdicts = {one["check"]: one["verdict"] for one in found["checks"]}
    assert not ended.value.code and verdicts.keys() == accelerator.CHECKS.keys(), found["checks"]
    skipped = {name for name, verdict in verdicts.items() if verdict == "skipped"}
    assert skipped == {name for name in verdicts if name.endswith(("bf16", ", fp16"))}
    assert set(verdicts.values()) == {"passed", "skipped"}
    assert (tmp_path / "cpu.md").read_text().count("| passed |") == 9
    assert Result(**found["checks"][0]).seconds > 0
