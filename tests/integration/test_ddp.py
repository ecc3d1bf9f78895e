"""Two gloo ranks on the CPU, both ways in which ESPnet can be started on them."""

import os
import socket
import subprocess

import pytest
import torch

from tests.plugin.tiny import BLORA, REPO, TRAIN, VALID, Experiment, data_dir, launcher

SETTINGS = {**BLORA, "batch_size": 4, "accum_grad": 2, "max_epoch": 2}
GLOO = ("--dist_backend", "gloo", "--ngpu", "0", "--multiprocessing_distributed", "false")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return Experiment(tmp_path_factory.mktemp("ddp"))


def start(experiment, way, name, arguments):
    """Start the probe through the launcher."""
    folder = experiment.folder / f"probe_{name}"
    folder.mkdir(exist_ok=True)
    command = [*launcher("--whisper", str(experiment.whisper))]
    command += ["-m", "tests.integration.ddp_probe", way, str(folder), *arguments]
    return subprocess.Popen(
        command,
        cwd=REPO,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(processes):
    """Wait for all; kill what hangs. Returns codes and outputs."""
    try:
        outputs = [process.communicate(timeout=400)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], outputs


def external_ranks(experiment, name, **changes):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    processes = []
    for rank in ("0", "1"):
        extra = [*GLOO, "--dist_world_size", "2", "--dist_rank", rank]
        extra += ["--dist_master_addr", "localhost", "--dist_master_port", port]
        arguments = experiment.arguments(name, extra, **{**SETTINGS, **changes})
        processes.append(start(experiment, "rank", name, arguments))
    return finish(processes)


def spawned_ranks(experiment, name, **changes):
    arguments = experiment.arguments(name, GLOO, **{**SETTINGS, **changes})
    return finish([start(experiment, "spawn", name, arguments)])


@pytest.mark.timeout(900)
def test_both_ways_train_the_same_and_ranks_agree_though_their_noise_differs(experiment):
    ends = {}
    for name, way in (("external", external_ranks), ("spawned", spawned_ranks)):
        codes, outputs = way(experiment, name)
        assert set(codes) == {0}, outputs[0][-3000:] + outputs[-1][-3000:]
        ranks = [torch.load(experiment.folder / f"probe_{name}" / f"rank{r}.pth") for r in (0, 1)]
        one, two = (rank["parameters"] for rank in ranks)
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one)
        assert sum(key.endswith("lora_A") for key in one) == 6
        # The same input at the same step: each rank draws its own noise.
        assert ranks[0]["noisy"].shape == ranks[1]["noisy"].shape
        assert not torch.allclose(ranks[0]["noisy"], ranks[1]["noisy"], rtol=1e-3)
        saved = torch.load(experiment.folder / name / "2epoch.pth")
        assert saved["adapter_state.step"].item() == 4
        trained = [key for key in saved if key.endswith(("lora_A", "lora_B", "rho_A"))]
        assert len(trained) == 18 and all(torch.equal(saved[key], one[key]) for key in trained)
        stats = torch.load(experiment.folder / name / "checkpoint.pth")["reporter"]["stats"]
        train = stats[2]["train"]
        assert train["neg_elbo"] == pytest.approx(train["loss"] + train["kl_term"], rel=1e-4)
        assert "kl_A" not in stats[2]["valid"]
        ends[name] = saved
    assert all(torch.equal(ends["external"][key], ends["spawned"][key]) for key in ends["external"])

    # A changed configuration is refused by every rank: none is left waiting for another.
    before = (experiment.folder / "external" / "config.yaml").read_bytes()
    codes, outputs = external_ranks(experiment, "external", max_epoch=3, seed=1)
    assert all(code not in (0, -9) for code in codes), codes
    assert all("seed: 0 -> 1" in output for output in outputs)
    assert (experiment.folder / "external" / "config.yaml").read_bytes() == before


@pytest.mark.timeout(900)
def test_ranks_that_keep_memories_train_the_same(experiment):
    dama = {"adapter": "dama", "adapter_conf": {"r_high": 4, "r_low": 2}, "accum_grad": 1}
    files = {"memory_cache": True, "memory_cache_ram": 0.0}
    saved = []
    for name, conf in (("plain", {}), ("kept", files)):
        changes = {**dama, "encoder_conf": {"pad_to": "batch", **conf}}
        codes, outputs = external_ranks(experiment, name, **changes)
        assert set(codes) == {0}, outputs[0][-3000:] + outputs[-1][-3000:]
        saved.append(torch.load(experiment.folder / name / "2epoch.pth"))
    assert all(torch.equal(value, saved[1][key]) for key, value in saved[0].items())
    assert len(list((experiment.folder / "memories").rglob("*.float32"))) == TRAIN + VALID


@pytest.mark.timeout(900)
def test_ranks_hear_halves_of_an_old_batch(experiment):
    """`retain:` on two ranks: the same weights on both, and again when it is resumed."""
    old = data_dir(experiment.folder / "old", 6, 9)
    block = {"data": str(old), "every": 1, "weight": 2.0, "batch_size": 4}
    saved = []
    for name, parts in (("retain_whole", [2]), ("retain_parts", [1, 2])):
        for epochs in parts:
            codes, outputs = external_ranks(experiment, name, retain=block, max_epoch=epochs)
            assert set(codes) == {0}, outputs[0][-3000:] + outputs[-1][-3000:]
        saved.append(torch.load(experiment.folder / name / "2epoch.pth"))
        stats = torch.load(experiment.folder / name / "checkpoint.pth")["reporter"]["stats"]
        assert stats[2]["train"]["retain_distillation"] > 0
    assert all(torch.equal(value, saved[1][key]) for key, value in saved[0].items())
