"""The demo around its steps: skip, redo, side by side, go on, set aside, explain."""

import importlib.util
import math
import sys
from pathlib import Path

import pytest

RECIPE = Path(__file__).resolve().parents[2] / "egs2" / "mini_noisy" / "asr1"


def load(monkeypatch):
    """The module of local/demo.py, which is a script and no part of a package."""
    monkeypatch.syspath_prepend(str(RECIPE / "local"))
    spec = importlib.util.spec_from_file_location("mini_noisy_demo", RECIPE / "local" / "demo.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "mini_noisy_demo", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """The demo's module, in an empty recipe with two steps: a writes a.txt, b copies it."""
    module = load(monkeypatch)
    monkeypatch.setattr(module, "RECIPE", tmp_path)
    (tmp_path / "a.yaml").write_text("x: 1\n")
    (tmp_path / "exp_ci").mkdir()
    (tmp_path / "exp_ci" / "retention.md").write_text("the page\n")

    def plan(_scale):
        time = {"ci": 1, "full": 1}
        a = [
            "bash",
            "-c",
            "cp a.yaml a.txt; echo a >> ran; mkdir -p exp_ci/m; touch exp_ci/m/x.pth",
        ]
        b = ["bash", "-c", "cp a.txt b.txt; echo b >> ran; test ! -e broken"]
        return [
            module.Step("a", "make a", a, time, ["a.yaml"], [], ["a.txt"], "exp_ci/m"),
            module.Step("b", "make b", b, time, [], ["a"], ["b.txt"]),
        ]

    monkeypatch.setattr(module, "plan", plan)
    monkeypatch.setenv("SCALE", "ci")
    return module


def ran(tmp_path):
    text = (tmp_path / "ran").read_text() if (tmp_path / "ran").exists() else ""
    (tmp_path / "ran").unlink(missing_ok=True)
    return text.split()


def test_runs_once_then_skips(demo, tmp_path, capsys):
    assert demo.main() == 0
    assert ran(tmp_path) == ["a", "b"]
    assert "the page" in capsys.readouterr().out
    assert demo.main() == 0
    assert ran(tmp_path) == []
    assert capsys.readouterr().out.count("done before") == 2


def test_a_changed_input_redoes_what_follows_and_keeps_the_old_experiment(demo, tmp_path, capsys):
    demo.main()
    ran(tmp_path)
    (tmp_path / "a.yaml").write_text("x: 2\n")
    assert demo.main() == 0
    assert ran(tmp_path) == ["a", "b"]
    assert (tmp_path / "b.txt").read_text() == "x: 2\n"
    assert len(list(tmp_path.glob("exp_ci/old/m_*/x.pth"))) == 1
    assert "the old one is now exp_ci/old/m_" in capsys.readouterr().out


def test_a_lost_output_is_made_again(demo, tmp_path):
    demo.main()
    ran(tmp_path)
    (tmp_path / "b.txt").unlink()
    assert demo.main() == 0
    assert ran(tmp_path) == ["b"]


def test_a_failure_is_explained_and_only_the_rest_is_redone(demo, tmp_path, capsys):
    (tmp_path / "broken").touch()
    assert demo.main() == 1
    error = capsys.readouterr().err
    assert "step 'b' failed (status 1)" in error
    assert "run the demo again" in error
    ran(tmp_path)
    (tmp_path / "broken").unlink()
    assert demo.main() == 0
    assert ran(tmp_path) == ["b"]


def test_an_interrupted_experiment_is_gone_on_with(demo, tmp_path):
    demo.main()
    ran(tmp_path)
    (tmp_path / "exp_ci" / "demo" / "a.done").unlink()
    assert demo.main() == 0
    assert ran(tmp_path) == ["a", "b"]
    assert not (tmp_path / "exp_ci" / "old").exists()


def test_a_step_that_leaves_nothing_failed(demo, tmp_path, monkeypatch, capsys):
    step = demo.Step("c", "make c", ["true"], {"ci": 1}, leaves=["c.txt"])
    monkeypatch.setattr(demo, "plan", lambda _scale: [step])
    assert demo.main() == 1
    assert "did not leave c.txt" in capsys.readouterr().err


def test_remedies_and_inner_logs(demo, tmp_path, monkeypatch, capsys):
    (tmp_path / "train.log").write_text("OSError: No space left on device\n")
    command = ["bash", "-c", "echo run.pl: job failed, log is in train.log; exit 1"]
    step = demo.Step("c", "make c", command, {"ci": 1})
    monkeypatch.setattr(demo, "plan", lambda _scale: [step])
    assert demo.main() == 1
    error = capsys.readouterr().err
    assert "the end of train.log" in error
    assert "the disk is full" in error


def test_two_demos_at_once_are_refused(demo, tmp_path, capsys):
    (tmp_path / "exp_ci" / "demo").mkdir()
    with (tmp_path / "exp_ci" / "demo" / ".lock").open("w") as lock:
        demo.fcntl.flock(lock, demo.fcntl.LOCK_EX)
        assert demo.main() == 1
    assert "another demo runs in this folder" in capsys.readouterr().err
    assert ran(tmp_path) == []


def test_unknown_scale(demo, monkeypatch, capsys):
    monkeypatch.setenv("SCALE", "huge")
    assert demo.main() == 2
    assert "allowed are full, ci" in capsys.readouterr().err


def test_progress_is_read_from_the_logs(demo, tmp_path):
    log = tmp_path / "step.log"
    log.write_text("x (asr.sh:1:main) Stage 10: ASR collect stats: train_set=x\n")
    step = demo.Step("train_x", "x", [], {"ci": 1}, folder="exp_ci/m")
    assert demo.progress(step, log) == ("stage 10, statistics", 0.0)
    (tmp_path / "exp_ci" / "m").mkdir()
    (tmp_path / "exp_ci" / "m" / "train.log").write_text("1/4epoch started\n3/4epoch started. E\n")
    assert demo.progress(step, log) == ("epoch 3/4", 0.5)


def test_a_slow_machine_lengthens_the_rest(demo):
    steps = [demo.Step(name, name, [], {"ci": 10}) for name in "abc"]
    display = demo.Display(steps, "ci")
    assert demo.SLOTS == 2
    assert display.remaining([]) == 30 / 2
    assert display.remaining([(steps[0], 4.0, 0.0)]) == (6 + 20) / 2
    assert display.remaining([(steps[0], 30.0, 0.0)]) == (2 + 60) / 2
    display.spent["a"] = 20.0
    display.todo.discard("a")
    assert display.remaining([(steps[1], 5.0, 0.0), (steps[2], 0.0, 0.0)]) == 20
    assert display.remaining([(steps[1], 5.0, 0.5)]) == (5 + 20) / 2


def test_steps_that_need_nothing_of_each_other_run_side_by_side(demo, tmp_path, monkeypatch):
    # each of the two waits for what the other leaves; the third must wait for both
    def meet(mine, other):
        wait = f"touch {mine}; for i in $(seq 900); do test -e {other} && exit 0; sleep 0.1; done"
        return ["bash", "-c", f"{wait}; exit 1"]

    steps = [
        demo.Step("a", "a", meet("a", "b"), {"ci": 1}),
        demo.Step("b", "b", meet("b", "a"), {"ci": 1}),
        demo.Step(
            "c", "c", ["bash", "-c", "test -e exp_ci/demo/a.done"], {"ci": 1}, [], ["a", "b"]
        ),
    ]
    monkeypatch.setattr(demo, "plan", lambda _scale: steps)
    assert demo.main() == 0


def test_a_failed_step_ends_the_one_beside_it(demo, tmp_path, monkeypatch):
    steps = [
        demo.Step("a", "a", ["bash", "-c", "sleep 6000; touch late"], {"ci": 1}),
        demo.Step("b", "b", ["bash", "-c", "exit 3"], {"ci": 1}),
    ]
    monkeypatch.setattr(demo, "plan", lambda _scale: steps)
    assert demo.main() == 1  # long before: no test has 6,000 s
    assert not (tmp_path / "exp_ci" / "demo" / "a.done").exists()


def test_the_real_plan_is_whole(monkeypatch):
    module = load(monkeypatch)
    for scale in module.SCALES:
        steps = module.plan(scale)
        names = [step.name for step in steps]
        assert len(set(names)) == len(names) >= 9
        for number, step in enumerate(steps):
            assert set(step.after) <= set(names[:number])
            assert all((RECIPE / name).is_file() for name in step.inputs if name != module.BASE)
            assert scale in step.seconds
        assert sum(step.seconds["full"] for step in steps) < 30 * 60  # 15 minutes on two cores
        assert sum(step.seconds["ci"] for step in steps) <= 6 * 60
        for step in steps:
            if step.command[0] == "./run.sh":
                given = dict(zip(step.command[1::2], step.command[2::2], strict=True))
                assert (given["--test_sets"], given["--retention_sets"]) == (
                    "test_noisy",
                    "ret_en ret_zh",
                )
        script = steps[-1].command[-1]
        assert "--test_sets test_noisy --retention_sets 'ret_en ret_zh'" in script


def test_the_reduced_demo_warms_up_well_before_it_ends(monkeypatch):
    """With the full demo's 40 steps of warm-up a few dozen steps would train nothing."""
    module = load(monkeypatch)
    options = module.SCALES["ci"][2]
    given = dict(word.split("=") for word in options if "=" in word)
    share = float(options[options.index("--corpus_scale") + 1])
    steps = math.ceil(600 * share / int(given["batch_size"])) * int(given["max_epoch"])
    assert 4 * int(given["scheduler_conf.warmup_steps"]) <= steps
