"""What the rounds of one comparison come to: a Markdown table, targets, shares of our time."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from .clock import PARTS
from .systems import OURS, UNPADDED

HEAD = (
    "| beam | system | batch | audio s a second | ours is ... x as fast | processor s a second | "
    "peak MiB (over the loaded model) | tokens an utterance | same ids as ours |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


@dataclass
class Rounds:
    """What one system gave with one beam: a result a round, or why there is none."""

    batch: int
    seconds: float
    """Of audio in a round."""
    results: list[dict] = field(default_factory=list)
    missing: str = ""

    @property
    def speeds(self) -> list[float]:
        """Audio seconds a second of each round."""
        return [self.seconds / one["wall"] for one in self.results]

    @property
    def texts(self) -> dict[str, list[int]]:
        """Those of the first round."""
        return self.results[0]["texts"]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median, and the range of several."""
    middle = f"{statistics.median(values):.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def ratios(ours: Rounds, other: Rounds) -> list[float]:
    """Our speed over the other's, round by round."""
    pairs = zip(ours.speeds, other.speeds, strict=False)  # as many as both have done
    return [mine / its for mine, its in pairs]


def table(beams: Mapping[int, Mapping[str, Rounds]]) -> str:
    """One comparison: beam -> system -> rounds."""
    lines = [HEAD]
    for beam, systems in beams.items():
        ours = systems[OURS]
        for name, rounds in systems.items():
            cells = [str(beam), name]
            if rounds.missing:
                lines.append(f"| {' | '.join([*cells, rounds.missing, *[''] * 6])} |")
                continue
            said = rounds.texts
            tokens = sum(len(ids) for ids in said.values()) / len(said)
            cpu = [one["cpu"] / rounds.seconds for one in rounds.results]
            memory = max(rounds.results, key=lambda one: one["over"])
            peak = f"{memory['peak']:.0f} " if "peak" in memory else ""
            fast = "1" if name == OURS else "?"
            same = ""
            if ours.results and name != OURS:
                fast = spread(ratios(ours, rounds))
                equal = sum(ours.texts[uid] == ids for uid, ids in said.items())
                same = f"{equal} of {len(said)}"
            cells += [str(rounds.batch), spread(rounds.speeds, 1), fast]
            cells += [f"{statistics.median(cpu):.3f}", f"{peak}({memory['over']:.0f})"]
            lines.append(f"| {' | '.join([*cells, f'{tokens:.1f}', same])} |")
    return "\n".join(lines)


@dataclass(frozen=True)
class Target:
    """Our speed over a peer's must reach this, in comparisons whose title begins so."""

    peer: str
    least: float
    beams: tuple[int, ...] = ()
    title: str = ""


TARGETS = (
    Target("ESPnet alone", 10.0, (5,), "mini_cs"),
    Target("HF generate", 1.5),
    Target("faster-whisper", 1 / 1.5),
)


def targets(title: str, beams: Mapping[int, Mapping[str, Rounds]]) -> list[str]:
    """A line for each target that this comparison can tell about."""
    lines = []
    for target in TARGETS:
        asked = target.beams or tuple(beams)
        for beam, name in product(beams, (OURS, UNPADDED)):
            ours, peer = beams[beam].get(name), beams[beam].get(target.peer)
            if beam not in asked or not title.startswith(target.title):
                continue
            if not (ours and peer and ours.results and peer.results):
                continue
            reached = statistics.median(ratios(ours, peer))
            verdict = "met" if reached >= target.least else "**not met**"
            batches = "" if ours.batch == peer.batch else f", batches {ours.batch} and {peer.batch}"
            lines.append(
                f"- {title}, beam {beam}{batches}: {name} {reached:.2f} x {target.peer} "
                f"(target {target.least:.2f}): {verdict}"
            )
    return lines


def shares(columns: Mapping[str, Mapping]) -> str:
    """Where our time goes: a column for each comparison and beam, of `clock.profile`'s answers."""
    lines = [f"| part | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    for part in PARTS:
        cells = [f"{100 * one['parts'][part] / one['wall']:.1f} %" for one in columns.values()]
        lines.append(f"| {part} | {' | '.join(cells)} |")
    total = [f"{one['wall']:.2f} s" for one in columns.values()]
    return "\n".join([*lines, f"| all | {' | '.join(total)} |"])
