"""The program that repairs: its table, its checkpoints as decoding opens them, the sweep."""

import json

import pytest
import torch

from espnet_blora.adapters.moments import read_sums
from espnet_blora.bin import moments, repair, sweep
from espnet_blora.decoding import open_experiment
from espnet_blora.decoding.recogniser import base_state
from espnet_blora.decoding.scaling import open_repair
from espnet_blora.whisper.checkpoint import save_whisper
from tests import experiments
from tests.decoding.small import LAYOUT
from tests.plugin.tiny import data_dir
from tests.whispers import ending, lively


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Return a folder with an adapted experiment, a set, and moments of old and new audio."""
    folder = tmp_path_factory.mktemp("repair")
    whisper = str(folder / "lively.safetensors")
    save_whisper(ending(lively(n_text_ctx=64), LAYOUT.eot), whisper, dtype=torch.float32)
    experiments.experiment(folder / "asr_blora", whisper, "blora")
    for name, seed, flags in (("old", 1, []), ("new", 2, ["--adapted"])):
        data_dir(folder / name, 4, seed)
        words = ["--asr_exp", str(folder / "asr_blora"), "--threads", "1", *flags]
        file = ["--output", str(folder / f"{name}.moments")]
        assert moments.main([str(folder / name), *words, *file]) == 0
    return folder


def arguments(world, *more):
    files = [f"--keep={world / 'old.moments'}", f"--new={world / 'new.moments'}"]
    return ["--asr_exp", str(world / "asr_blora"), "--threads", "1", *files, *more]


def test_checkpoints_stand_for_the_trained_one(world, capsys, caplog):
    assert repair.main(arguments(world)) == 0
    for name in ("old", "new"):
        assert f"{world / name}.moments: 0.0 min were heard" in caplog.text
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["0", "100.0%", "0.0%", "100.0%"] and len(lines) == 9
    assert not list(world.glob("asr_blora/repaired*"))
    assert repair.main(arguments(world, "--strength", "0 0.3")) == 0
    open_it = {"asr_exp": world / "asr_blora", "merge": False, "packed": False}
    trained_one = open_experiment(**open_it)
    written = open_experiment(model_file="repaired_mu0.3.pth", **open_it)
    same = open_experiment(model_file="repaired_mu0.pth", **open_it)
    factors = trained_one.adapter.factors()
    assert all(torch.equal(factors[n], t) for n, t in same.adapter.factors().items())
    work = open_repair(trained_one, world / "old.moments", world / "new.moments")
    with work.applied(0.3):
        for name, tensor in written.adapter.factors().items():
            assert torch.equal(factors[name], tensor), name
    changed = {n.rpartition(".")[2] for n in work.tensors(0.3)}
    assert changed == {"lora_A", "rho_A"}
    about = json.loads((world / "asr_blora" / "repaired_mu0.3.json").read_text())
    assert about["checkpoint"] == "valid.acc.best.pth" and about["strength"] == 0.3
    assert 0 < about["lost"] < 1


def test_strengths_are_swept_in_one_process(world):
    words = ["--dump", str(world), "--sets", "old", "--repair", "0 0.3", "--scales", "0 1"]
    assert sweep.main(arguments(world, *words)) == 0
    rows = json.loads((world / "asr_blora" / "repair_sweep.json").read_text())
    assert [(r["repair"], r["scale"]) for r in rows] == [(0, 0), (0, 1), (0.3, 0), (0.3, 1)]
    texts = {
        point: (world / "asr_blora" / "repair_sweep" / point / "old" / "text").read_text()
        for point in ("0_0", "0_1", "0.3_0", "0.3_1")
    }
    assert texts["0_0"] == texts["0.3_0"] != texts["0_1"]


def test_all_weights_are_repaired_and_swept(world, tmp_path):
    """Of full fine-tuning: the base is heard by taking all of the change away."""
    experiments.experiment(tmp_path / "asr_full", str(world / "lively.safetensors"))
    full = ["--asr_exp", str(tmp_path / "asr_full"), "--threads", "1"]
    for name, flags in (("old", []), ("new", ["--adapted"])):
        file = ["--output", str(tmp_path / name), *flags]
        assert moments.main([str(world / name), *full, *file]) == 0
    of_base = read_sums(world / "old.moments.sums")
    of_full = read_sums(tmp_path / "old.sums")
    assert of_full.positions == of_base.positions
    files = [f"--keep={tmp_path / 'old'}", f"--new={tmp_path / 'new'}"]
    assert repair.main([*full, *files, "--strength", "0.4"]) == 0
    open_it = {"asr_exp": tmp_path / "asr_full", "merge": False, "packed": False}
    opened, written = (
        open_experiment(**open_it),
        open_experiment(model_file="repaired_mu0.4.pth", **open_it),
    )
    base = base_state(tmp_path / "asr_full")
    work = open_repair(opened, tmp_path / "old", tmp_path / "new", base)
    theirs = dict(written.as_trained().named_parameters())
    with work.applied(0.4):
        for name, value in opened.as_trained().named_parameters():
            assert torch.equal(value, theirs[name]), name
    words = ["--dump", str(world), "--sets", "old", "--repair", "0 0.4", "--scales", "0 1"]
    assert sweep.main([*full, *files, *words]) == 0
    rows = json.loads((tmp_path / "asr_full" / "repair_sweep.json").read_text())
    assert [(r["repair"], r["scale"]) for r in rows] == [(0, 0), (0, 1), (0.4, 0), (0.4, 1)]
    assert all(r["old_audio"] == pytest.approx(sum(of_base.heard.values())) for r in rows)
    with pytest.raises(ValueError, match="has no adapter: a repair needs the base's weights"):
        open_repair(opened, tmp_path / "old", tmp_path / "new")


def moments_of(world, output, *more, asr_exp=None):
    words = ["--asr_exp", str(asr_exp or world / "asr_blora"), "--threads", "1"]
    assert moments.main([str(world / "old"), *words, "--output", str(output), *more]) == 0
    return f"--keep={output}"


def test_moments_that_do_not_fit_are_refused(world, mistake, tmp_path):
    """Of another base, of fewer Linears, with NaN, damaged."""
    other = str(tmp_path / "other.safetensors")
    save_whisper(ending(lively(n_text_ctx=64, seed=1), LAYOUT.eot), other, dtype=torch.float32)
    experiments.experiment(tmp_path / "asr_blora", other, "blora")
    foreign = moments_of(world, tmp_path / "foreign", asr_exp=tmp_path / "asr_blora")
    fewer = moments_of(world, tmp_path / "fewer", "--target_modules", "out")
    sums = read_sums(world / "old.moments.sums")
    next(iter(sums.sums.values()))[0, 0] = torch.inf
    sums.export(tmp_path / "nan", {})
    (tmp_path / "cut").write_bytes((world / "old.moments").read_bytes()[:-50])
    for keep, message in (
        (foreign, "foreign: wrong base"),
        (fewer, "fewer lacks"),
        (f"--keep={tmp_path / 'nan'}", "holds NaN or inf; make it with"),
        (f"--keep={tmp_path / 'cut'}", "cut is truncated"),
    ):
        for program, more in ((repair, ["--strength", "1"]), (sweep, [])):
            words = [*arguments(world, *more), keep]
            if program is sweep:
                words += ["--dump", str(world), "--sets", "old", "--repair", "1"]
            assert message in mistake(program.__name__.split(".")[-1], program.main, words)
    assert not (world / "asr_blora" / "repaired_mu1.pth").exists()


def test_a_repair_gives_the_same_bits_again(world):
    path = world / "asr_blora" / "repaired_mu0.7.pth"
    written = []
    for _ in range(2):
        assert repair.main(arguments(world, "--strength", "0.7")) == 0
        written.append(torch.load(path))
    one, two = written
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def test_mistakes_are_one_line(world, mistake):
    swept = ["--dump", str(world), "--sets", "old"]
    assert "--repair needs both" in mistake("sweep", sweep.main, arguments(world, *swept))
    words = arguments(world, "--strength", "a")
    assert "--strength 'a': numbers" in mistake("repair", repair.main, words)
    swapped = [*arguments(world), f"--keep={world / 'new.moments'}"]
    assert "was heard by the adapted model" in mistake("repair", repair.main, swapped)
    missing = [*arguments(world), "--new=nowhere"]
    assert "file of moments nowhere does not exist" in mistake("repair", repair.main, missing)
