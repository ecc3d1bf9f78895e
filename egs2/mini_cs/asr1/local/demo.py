#!/usr/bin/env python3
"""The demo: adapt the tiny base model with LoRA and BLoRA; report what each gained and forgot.

    make demo           from the top of the repository; sets up the environment first
    SCALE=ci make demo  a twentieth of the data, 24 steps: shows that all works, not how well

Every step writes its log to exp/demo/<step>.log.  A step that is done leaves a marker with a
fingerprint of what it was made from; run again, the demo skips it unless a configuration, a script
or the base model has changed.
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
from pathlib import Path

from demo_steps import BASE, SCALES, Step, plan

RECIPE = Path(__file__).resolve().parents[1]
# ESPnet's stages, in a few words
STAGES = {1: "making the corpus", 3: "audio formats", 4: "lengths", 5: "token list"}
STAGES |= {10: "statistics", 11: "training", 12: "decoding", 13: "scoring"}
REMEDIES = (
    ("No space left on device", "the disk is full: free about 2 GB, then start again"),
    (r"MemoryError|Cannot allocate memory|Killed", "memory ran out: close other programs"),
    ("No module named", "the environment is incomplete: run `make env`"),
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

    def remaining(self, step: Step, elapsed: float, share: float) -> float:
        """Seconds to go, from what the finished steps took against what they were expected to."""
        expected = sum(s.seconds[self.scale] for s in self.steps if s.name in self.spent)
        spent = sum(self.spent.values())
        pace = spent / expected if expected else 1.0
        if elapsed > pace * step.seconds[self.scale]:  # slower than thought, by at least this much
            pace = (spent + elapsed) / (expected + step.seconds[self.scale])
        here = max(step.seconds[self.scale] * pace - elapsed, 2.0)
        if share > 0.05:
            here = elapsed / share * (1 - share)
        later = [s for s in self.steps if s.name in self.todo and s is not step]
        return here + pace * sum(s.seconds[self.scale] for s in later)

    def tick(self, number: int, step: Step, elapsed: float, log: Path) -> None:
        """Show what is going on now."""
        now = time.monotonic()
        if now - self.last < (1.0 if self.live else 30.0):
            return
        self.last = now
        what, share = progress(step, log)
        text = (
            f"[{number}/{len(self.steps)}] {step.title}{': ' if what else ''}{what} | "
            f"{clock(elapsed)} here, {clock(now - self.began)} in all, "
            f"about {clock(self.remaining(step, elapsed, share))} to go"
        )
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


def execute(number: int, step: Step, log: Path, display: Display) -> None:
    """Run one step to its end, showing how it goes."""
    began = time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen(
            step.command,
            cwd=RECIPE,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while process.poll() is None:
                display.tick(number, step, time.monotonic() - began, log)
                try:
                    process.wait(0.5)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
    if process.returncode != 0:
        raise explain(step, log, process.returncode)
    missing = [name for name in step.leaves if not (RECIPE / name).exists()]
    if missing:
        with log.open("a") as out:
            out.write(f"\nended well, but did not leave {', '.join(missing)}\n")
        raise explain(step, log, 0)


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
        total = sum(s.seconds[scale] for s in todo)
        display.line(
            f"demo ({scale}): {len(todo)} of {len(steps)} steps to do, about {clock(total)} on two "
            f"cores; logs in {logs.relative_to(RECIPE)}"
        )
    for number, step in enumerate(steps, 1):
        head = f"[{number}/{len(steps)}] {step.title}"
        if step not in todo:
            display.line(f"{head}: done before")
            continue
        if not display.live:
            display.line(f"{head} ...")
        begun = logs / f"{step.name}.begun"
        if not (begun.is_file() and begun.read_text() == marks[step.name]):
            set_aside(step, exp, display)
        (logs / f"{step.name}.done").unlink(missing_ok=True)
        begun.write_text(marks[step.name])
        began = time.monotonic()
        execute(number, step, logs / f"{step.name}.log", display)
        display.spent[step.name] = time.monotonic() - began
        display.todo.discard(step.name)
        (logs / f"{step.name}.done").write_text(marks[step.name])
        display.line(f"{head}: {clock(display.spent[step.name])}")
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
