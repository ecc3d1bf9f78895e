#!/usr/bin/env python3
"""The demo: adapt a tiny Whisper in three ways, repair one; report what each gained and forgot.

    make demo           from the top of the repository; sets up the environment first
    SCALE=ci make demo  a twentieth of the data, 24 steps: shows that all works, not how well

Every step writes its log to exp/demo/<step>.log. Two steps run side by side where neither needs
the other. A step that is done leaves a marker with a fingerprint of what it was made from; run
again, the demo skips it unless a configuration, a script or the base model has changed.
"""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from demo_steps import BASE, SCALES, Step, plan

RECIPE = Path(__file__).resolve().parents[1]
SLOTS = 2  # steps that run side by side
# ESPnet's stages, in a few words
STAGES = {1: "making the corpus", 3: "audio formats", 4: "lengths", 5: "token list"}
STAGES |= {10: "statistics", 11: "training", 12: "decoding", 13: "scoring"}
REMEDIES = (
    ("No space left on device", "the disk is full: free about 2 GB, then start again"),
    (r"MemoryError|Cannot allocate memory|Killed", "memory ran out: close other programs"),
    (r"No module named '(?!flash_attn)", "the environment is incomplete: run `make env`"),
    ("no such file; give a checkpoint", f"the base model is missing: restore {BASE} with git"),
)


class Failed(Exception):
    """A step failed; the text says which, shows the end of its log, and what to do."""


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    minutes, rest = divmod(int(max(0, seconds)), 60)
    return f"{minutes}:{rest:02d}"


def tail(path: Path, size: int = 20000) -> str:
    """The end of a log."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - size))
        return file.read().decode("utf-8", "replace")


def progress(step: Step, log: Path) -> tuple[str, float]:
    """What a running step is doing, and how much of it is done (0 if that cannot be told)."""
    text = tail(log)
    stages = [int(number) for number in re.findall(r" Stage (\d+): ", text)]
    what = f"stage {stages[-1]}, {STAGES.get(stages[-1], '...')}" if stages else ""
    if step.name.startswith("train_") and step.folder:
        train = tail(RECIPE / step.folder / "train.log")
        started = re.findall(r"(\d+)/(\d+)epoch started", train)
        if started:
            epoch, last = map(int, started[-1])
            return f"epoch {epoch}/{last}", (epoch - 1) / last
    sets = re.findall(r"Decoding started.*?/decode[^/]*/([^/]+)/logdir", text)
    if sets and stages[-1:] == [12]:
        return f"{what} {sets[-1]}", 0.0
    return what, 0.0


@dataclass
class Run:
    """A step that is running."""

    number: int
    step: Step
    process: subprocess.Popen
    log: Path
    began: float

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.began

    def stop(self) -> None:
        """End the step and whatever it has started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait()


class Display:
    """One live line on a terminal; elsewhere a line when a step starts or ends, and every 30 s."""

    def __init__(self, steps: list[Step], scale: str):
        self.steps, self.scale = steps, scale
        self.began = time.monotonic()
        self.spent: dict[str, float] = {}
        self.todo = {s.name for s in steps}
        self.live = sys.stdout.isatty()
        self.last = 0.0

    def line(self, text: str) -> None:
        """Print a line that stays."""
        print(f"\r\033[K{text}" if self.live else text, flush=True)

    def remaining(self, running: Sequence[tuple[Step, float, float]]) -> float:
        """Return the seconds to go, from what the finished steps took and were expected to take.

        Args:
            running: Steps with the seconds they have run, and the share that is done (0: unknown).
        """
        expected = sum(s.seconds[self.scale] for s in self.steps if s.name in self.spent)
        spent = sum(self.spent.values())
        pace = spent / expected if expected else 1.0
        # steps that are slower than thought, by at least this much
        slow = [(s, t) for s, t, _ in running if t > pace * s.seconds[self.scale]]
        if slow:
            spent += sum(elapsed for _, elapsed in slow)
            pace = spent / (expected + sum(step.seconds[self.scale] for step, _ in slow))
        here = [
            elapsed / share * (1 - share)
            if share > 0.05
            else max(step.seconds[self.scale] * pace - elapsed, 2.0)
            for step, elapsed, share in running
        ]
        names = {step.name for step, _, _ in running}
        later = [s for s in self.steps if s.name in self.todo - names]
        work = sum(here) + pace * sum(s.seconds[self.scale] for s in later)
        return max([*here, work / SLOTS])

    def tick(self, running: Sequence[Run]) -> None:
        """Show what is going on now."""
        now = time.monotonic()
        if now - self.last < (1.0 if self.live else 30.0):
            return
        self.last = now
        parts, states = [], []
        for run in running:
            what, share = progress(run.step, run.log)
            states.append((run.step, run.elapsed, share))
            head = f"[{run.number}/{len(self.steps)}] {run.step.title}"
            parts.append(f"{head}{': ' if what else ''}{what} {clock(run.elapsed)}")
        times = f"{clock(now - self.began)} in all, about {clock(self.remaining(states))} to go"
        text = " | ".join([times, *parts])
        if self.live:
            width = os.get_terminal_size().columns if sys.stdout.isatty() else 100
            print(f"\r\033[K{text[: width - 1]}", end="", flush=True)
        else:
            print(text, flush=True)


def explain(step: Step, log: Path, code: int) -> Failed:
    """Turn a failed step into an error that shows the end of its log and what to do."""
    text = tail(log)
    shown = [f"--- the end of {log.relative_to(RECIPE)} ---", *text.splitlines()[-25:]]
    inner = re.findall(r"(?:log is in|[Ss]ee|log:) '?(\S+\.log)'?", text)
    for name in inner[-1:]:
        path = RECIPE / name
        if path.is_file() and path != log:
            more = tail(path)
            text += more
            shown += [f"--- the end of {name} ---", *more.splitlines()[-25:]]
    remedy = next(
        (what for sign, what in REMEDIES if re.search(sign, text)),
        "read the log above, repair what it says",
    )
    shown += [
        f"demo: step '{step.name}' failed (status {code}): {shlex.join(step.command)}",
        f"demo: {remedy}. Then run the demo again: steps that are done are skipped.",
    ]
    return Failed("\n".join(shown))


def start(number: int, step: Step, logs: Path) -> Run:
    """Start a step.

    A training would take all cores, and the number of its threads shows in the last bits of its
    weights. Here it gets one thread, so that two run side by side, the same on every machine.
    """
    log = logs / f"{step.name}.log"
    environment = dict(os.environ)
    if step.name.startswith("train_"):
        environment.setdefault("ESPNET_BLORA_THREADS", "1")
    with log.open("wb") as out:
        process = subprocess.Popen(
            step.command,
            cwd=RECIPE,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Run(number, step, process, log, time.monotonic())


def check(run: Run) -> None:
    """Check that a step that has ended did what it should.

    Raises:
        Failed: It ended with an error, or did not leave what it should.
    """
    if run.process.returncode != 0:
        raise explain(run.step, run.log, run.process.returncode)
    missing = [name for name in run.step.leaves if not (RECIPE / name).exists()]
    if missing:
        with run.log.open("a") as out:
            out.write(f"\nended well, but did not leave {', '.join(missing)}\n")
        raise explain(run.step, run.log, 0)


def set_aside(step: Step, exp: str, display: Display) -> None:
    """Move an experiment of another configuration out of the way; nothing is deleted."""
    folder = RECIPE / step.folder
    if step.folder and folder.is_dir() and any(folder.glob("*.pth")):
        old = RECIPE / exp / "old" / f"{folder.name}_{time.strftime('%Y%m%dT%H%M%S')}"
        old.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(old)
        display.line(
            f"      its settings have changed: the old one is now {old.relative_to(RECIPE)}"
        )


def demo(scale: str, logs: Path) -> None:
    """Run what is not done yet."""
    exp = SCALES[scale][0]
    steps = plan(scale)
    display = Display(steps, scale)

    # What has to be done: steps without a marker of this fingerprint, and what follows them.
    marks: dict[str, str] = {}
    todo = []
    for step in steps:
        mark = marks[step.name] = step.fingerprint(marks, RECIPE)
        marker = logs / f"{step.name}.done"
        same = marker.is_file() and marker.read_text() == mark
        kept = all((RECIPE / name).exists() for name in step.leaves)
        again = any(s.name in step.after for s in todo)
        if not (same and kept) or again:
            todo.append(step)
    display.todo = {s.name for s in todo}
    if todo:
        display.line(
            f"demo ({scale}): {len(todo)} of {len(steps)} steps to do, about "
            f"{clock(display.remaining([]))} on two cores; logs in {logs.relative_to(RECIPE)}"
        )
    for number, step in enumerate(steps, 1):
        if step not in todo:
            display.line(f"[{number}/{len(steps)}] {step.title}: done before")

    # Run them, each as soon as the steps before it are done and a slot is free.
    waiting, running = list(todo), []
    try:
        while waiting or running:
            ready = [s for s in waiting if not display.todo.intersection(s.after)]
            for step in ready[: SLOTS - len(running)]:
                waiting.remove(step)
                number = steps.index(step) + 1
                if not display.live:
                    display.line(f"[{number}/{len(steps)}] {step.title} ...")
                begun = logs / f"{step.name}.begun"
                if not (begun.is_file() and begun.read_text() == marks[step.name]):
                    set_aside(step, exp, display)
                (logs / f"{step.name}.done").unlink(missing_ok=True)
                begun.write_text(marks[step.name])
                running.append(start(number, step, logs))
            display.tick(running)
            time.sleep(0.1)
            for run in [r for r in running if r.process.poll() is not None]:
                check(run)
                running.remove(run)
                name = run.step.name
                display.spent[name] = run.elapsed
                display.todo.discard(name)
                (logs / f"{name}.done").write_text(marks[name])
                head = f"[{run.number}/{len(steps)}] {run.step.title}"
                display.line(f"{head}: {clock(display.spent[name])}")
    finally:
        for run in running:
            run.stop()

    # What it was all for: the page's first lines, and where the rest lies.
    display.line(f"demo: finished in {clock(time.monotonic() - display.began)}")
    page = RECIPE / exp / "retention.md"
    display.line(page.read_text(encoding="utf-8").partition("\n![")[0])  # up to the first plot
    display.line(
        f"The report, to look at: {page.with_suffix('.html')}\nThe same to read: {page}\n"
        f"Its figures: {page.with_suffix('.csv')}\nThe scores: {RECIPE / exp / 'RESULTS.md'}"
    )


def stop(_signal: int, _frame: object) -> None:
    """End as with Ctrl-C, so that the running step is ended too."""
    raise KeyboardInterrupt


def main() -> int:
    """Run the demo at the scale that the environment variable SCALE names."""
    scale = os.environ.get("SCALE") or "full"
    if scale not in SCALES:
        print(f"demo: SCALE={scale}: allowed are {', '.join(SCALES)}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, stop)
    try:
        logs = RECIPE / SCALES[scale][0] / "demo"
        logs.mkdir(parents=True, exist_ok=True)
        with (logs / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            demo(scale, logs)
    except FileNotFoundError as error:
        print(f"demo: {error.filename} is missing; restore it with git", file=sys.stderr)
        return 1
    except BlockingIOError:
        print("demo: another demo runs in this folder; wait for it", file=sys.stderr)
        return 1
    except Failed as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: stopped; run it again to go on where it was", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
