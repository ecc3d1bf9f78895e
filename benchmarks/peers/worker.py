"""A system in a process of its own: it opens its checkpoint, then answers tasks line by line.

So a peak of resident memory is the system's own, and rounds of several systems can be interleaved
without opening anything anew. One JSON object a line: the parent sends {"opening": ...} once, then
tasks; the child answers {"ready": ...}, then results. A child of its own converts checkpoints.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from . import systems
from .systems import Opening, Task, Utterance

HERE = Path(__file__).resolve().parents[1]


class Failed(RuntimeError):
    """A child that ended early; the message is its last line."""


class Child:
    """The parent's end of a process."""

    def __init__(self, opening: Opening | None, threads: int):
        """Start it; `wait` tells when it is ready."""
        number = str(threads)
        paths = [str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {
            "OMP_NUM_THREADS": number,
            "MKL_NUM_THREADS": number,
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        }
        self.log = tempfile.TemporaryFile()  # noqa: SIM115  closed by close()
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from peers.worker import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env=environment,
        )
        self.send(opening=opening and asdict(opening))

    def send(self, **message: object) -> None:
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def wait(self) -> dict:
        """Its next answer.

        Raises:
            Failed: it ended instead.
        """
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        self.process.wait()
        self.log.seek(0)
        said = self.log.read().decode("utf-8", "replace").strip().splitlines()
        raise Failed(said[-1] if said else f"status {self.process.returncode}")

    def ask(self, **message: object) -> dict:
        """Send a message and wait for the answer.

        Raises:
            Failed: the child has ended, or ends.
        """
        with suppress(BrokenPipeError):  # `wait` tells why
            self.send(**message)
        return self.wait()

    def close(self) -> None:
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.log.close()


# ---- the child -----------------------------------------------------------------------------------


def serve() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    system, opened, waves = None, 0.0, {}
    for line in sys.stdin:
        message = json.loads(line)
        if message.get("opening"):
            opening = Opening(**message["opening"])
            system, opened = systems.SYSTEMS[opening.system](opening), pages("VmRSS")
            answer = {"ready": True}
        elif "prepare" in message:
            from . import convert

            getattr(convert, message["prepare"])(*message["arguments"])
            answer = {"ready": True}
        elif "task" in message:
            waves = waves or load_waves(message["waves"])
            answer = run(system, opened, waves, message)
        else:
            answer = {"ready": True}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def load_waves(path: str) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {uid: file[uid] for uid in file.files}


def run(
    system: systems.System, opened: float, waves: Mapping[str, np.ndarray], message: dict
) -> dict:
    """Warm up on the first batch, then decode once with a clock: seconds, memory and texts.

    Where lengths are fixed, and utterances long, the first utterance must do for warming up.

    `opened`: MiB that were resident before the first task.
    """
    task = Task(**message["task"])
    speech = {
        uid: Utterance(waves[uid], language, message["prompts"][language])
        for uid, language in message["languages"].items()
    }
    few = list(speech)[: 1 if system.one_by_one or task.fixed else task.batch]
    system.decode({uid: speech[uid] for uid in few}, replace(task, tokens=min(task.tokens, 3)))
    if message.get("profile"):
        from .clock import profile

        return profile(system.recogniser, lambda: system.decode(speech, task))
    with Memory(system.opening.device, opened) as watch:
        wall, cpu = time.perf_counter(), time.process_time()
        texts = system.decode(speech, task)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"wall": wall, "cpu": cpu, "texts": texts, **watch.found}


class Memory:
    """Memory of a block in MiB.

    `peak`: of this process's resident pages; `over`: what of it came to what it held with the
    model opened; on a GPU `over` alone, of what the device has given away.
    """

    def __init__(self, device: str, opened: float):
        """Take the device that is looked at, and the resident pages before the first task, MiB."""
        self.device, self.opened = device, opened
        self.cuda = device.startswith("cuda")
        self.found: dict[str, float] = {}
        self.ended = threading.Event()

    def __enter__(self) -> Memory:
        gc.collect()
        if self.cuda:
            import torch

            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            self.before = self.peak = self.given()
            self.thread = threading.Thread(target=self.look, daemon=True)
            self.thread.start()
            return self
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        return self

    def given(self) -> float:
        import torch

        free, total = torch.cuda.mem_get_info(self.device)
        return (total - free) / 2**20

    def look(self) -> None:
        while not self.ended.wait(0.005):
            self.peak = max(self.peak, self.given())

    def __exit__(self, *error: object) -> None:
        if self.cuda:
            self.ended.set()
            self.thread.join()
            self.found = {"over": max(self.peak, self.given()) - self.before}
        else:
            peak = pages("VmHWM")
            self.found = {"peak": peak, "over": peak - self.opened}


def pages(what: str) -> float:
    """A figure of this process's /proc/self/status in MiB."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition(f"{what}:")[2].split()[0]) / 1024
