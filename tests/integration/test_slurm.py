"""Stage 11 on two nodes of a real Slurm: one controller and two emulated nodes on this machine."""

import os
import pwd
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from benchmarks.kills import differences, what_counts
from tests.data.layouts import custom
from tests.integration.conftest import ROOT, TINY, Checkout

PACKAGES = "slurmctld slurmd slurm-client slurm-wlm-basic-plugins libhwloc15".split()
SETTINGS = "max_epoch=6 batch_size=2 num_workers=0 accum_grad=1 keep_nbest_models=6"


class Cluster:
    """Debian's Slurm, unpacked, with its own configuration, ports and folders."""

    def __init__(self, folder: Path):
        fetched = subprocess.run(
            ["bash", ROOT / "tools/apt_fetch.sh", *PACKAGES, folder], capture_output=True, text=True
        )
        if fetched.returncode:
            pytest.skip(f"Slurm cannot be had: {fetched.stderr.strip().splitlines()[-1]}")
        self.folder = folder
        self.libraries = next(folder.glob("usr/lib/*/slurm-wlm"))
        self.configure()
        self.environment = os.environ | {
            "LD_LIBRARY_PATH": f"{self.libraries}:{self.libraries.parent}",
            "SLURM_CONF": str(folder / "slurm.conf"),
        }
        # jobs get PATH alone from slurm.pl, so the commands there bring the rest
        commands = folder / "commands"
        commands.mkdir()
        given = [f"{key}={self.environment[key]}" for key in ("LD_LIBRARY_PATH", "SLURM_CONF")]
        for name in ("sbatch", "srun", "squeue", "scancel", "sinfo"):
            script = f'#!/bin/bash\nexec env {" ".join(given)} {folder}/usr/bin/{name} "$@"\n'
            (commands / name).write_text(script)
            (commands / name).chmod(0o755)
        self.environment["PATH"] = f"{commands}:{os.environ['PATH']}"
        self.daemons: list[subprocess.Popen] = []

    def configure(self) -> None:
        """Write slurm.conf: partition `cpu`, as the recipes' conf/slurm.conf has it."""
        host, user = socket.gethostname(), pwd.getpwuid(os.getuid()).pw_name
        sockets = [socket.socket() for _ in range(3)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1] for one in sockets]
        for one in sockets:
            one.close()
        settings = {
            "ClusterName": "test", "SlurmctldHost": f"{host}(127.0.0.1)",
            "SlurmctldPort": ports[0], "SlurmUser": user, "SlurmdUser": user,
            "AuthType": "auth/none", "CredType": "cred/none", "PluginDir": self.libraries,
            "StateSaveLocation": self.folder / "state",
            "SlurmdSpoolDir": self.folder / "spool.%n",
            "SlurmctldPidFile": self.folder / "controller.pid",
            "SlurmdPidFile": self.folder / "%n.pid",
            "ProctrackType": "proctrack/linuxproc", "TaskPlugin": "task/none",
            "SelectType": "select/cons_tres", "SelectTypeParameters": "CR_CPU",
            "MpiDefault": "none", "KillWait": 1, "ReturnToService": 2,
        }  # fmt: skip
        lines = [f"{key}={value}" for key, value in settings.items()]
        for number, port in enumerate(ports[1:]):
            (self.folder / f"spool.n{number}").mkdir()
            lines.append(
                f"NodeName=n{number} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2"
            )
        lines.append("PartitionName=cpu Nodes=n0,n1 Default=YES State=UP")
        (self.folder / "state").mkdir()
        (self.folder / "slurm.conf").write_text("\n".join(lines) + "\n")

    def start(self) -> None:
        """Start the controller and the nodes, and wait for these."""
        programs = self.folder / "usr/sbin"
        self.daemon("controller", programs / "slurmctld-wlm", "-D")
        for node in ("n0", "n1"):
            step = programs / "slurmstepd-wlm"
            self.daemon(node, programs / "slurmd-wlm", "-D", "-N", node, "-d", step)
        for _ in range(60):
            if self.ask("sinfo", "-h", "-o", "%t %D").split() == ["idle", "2"]:
                return
            time.sleep(0.5)
        logs = [p.read_text()[-600:] for p in sorted(self.folder.glob("*.log"))]
        pytest.skip(f"Slurm does not start here: {logs}")

    def daemon(self, name: str, *command) -> None:
        with (self.folder / f"{name}.log").open("w") as log:
            self.daemons.append(
                subprocess.Popen(command, stdout=log, stderr=log, env=self.environment)
            )

    def ask(self, *command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, env=self.environment).stdout

    def stop(self) -> None:
        self.ask("scancel", "--state=RUNNING", "--partition=cpu")
        for _ in range(40):
            if not self.ask("squeue", "-h"):
                break
            time.sleep(0.5)
        for daemon in reversed(self.daemons):
            daemon.terminate()
            daemon.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


def test_a_cancelled_training_on_two_nodes_ends_as_one_that_was_not(cluster, tmp_path):
    checkout = Checkout(tmp_path / "checkout", "custom")
    corpus = custom.recordings(tmp_path / "corpus")
    own = ["--whisper", str(TINY), "--adapter", "blora", "--retention_sets", ""]
    own += [word for one in SETTINGS.split() for word in ("--set", one)]
    done = checkout.run("./run.sh", *own, "--ngpu", "0", "--stop_stage", "10", CUSTOM=str(corpus))
    assert done.returncode == 0, done.stdout[-4000:]

    def train(tag: str) -> subprocess.Popen:
        words = ["./run.sh", *own, "--tag", tag, "--stage", "11", "--stop_stage", "11"]
        words += ["--ngpu", "0", "--num_nodes", "2"]
        environment = cluster.environment | {"cmd_backend": "slurm", "CUSTOM": str(corpus)}
        with (tmp_path / f"{tag}.log").open("a") as log:
            return subprocess.Popen(
                words, cwd=checkout.recipe, env=environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    folders = {tag: checkout.recipe / f"exp/asr_blora_{tag}" for tag in ("whole", "cut")}
    whole, cut = train("whole"), train("cut")  # both at once, four ranks
    running = [whole, cut]
    try:
        # scancel as soon as an epoch is saved
        while not (folders["cut"] / "checkpoint.pth").exists():
            assert cut.poll() is None, (tmp_path / "cut.log").read_text()[-4000:]
            time.sleep(0.05)
        name = "exp/asr_blora_cut/train.log"
        (job,) = cluster.ask("squeue", "-h", "--name", name, "-o", "%i").split()
        cluster.ask("scancel", job)
        assert whole.wait(600) == 0, (tmp_path / "whole.log").read_text()[-4000:]
        if cut.poll() is None:
            os.killpg(cut.pid, signal.SIGINT)  # slurm.pl asks for minutes where the job is
        assert cut.wait(100) != 0 and not (folders["cut"] / "6epoch.pth").exists()
        running.append(train("cut"))
        assert running[-1].wait(600) == 0, (tmp_path / "cut.log").read_text()[-4000:]
    finally:
        for process in running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
    assert differences(*map(what_counts, folders.values())) == []
    log = (folders["cut"] / "train.log").read_text()
    assert "SLURM_NNODES=2" in log and ":0/2]" in log
