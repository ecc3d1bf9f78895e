"""The picture of `why.md`: one Linear whose update is turned down, as a whole or by directions.

An update of rank 4 is trained on new inputs, and its repair is taken at many strengths, with
`espnet_blora.adapters.repair`'s own code, for three kinds of old inputs. All is computed here, in a
second; `python3 docs/why_plot.py FILE.svg` draws it alone.
"""

import io
import sys
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from espnet_blora.adapters.repair import directions

WIDTH, RANK, STEPS = 64, 4, 300
# Of the strongest directions of the old inputs, how many are those of the new ones, too.
KINDS = {"the same directions": 1.0, "half of them": 0.5, "others": 0.0}
STRENGTHS = torch.logspace(-3, 3, 121, dtype=torch.float64)


class Traded(NamedTuple):
    """What each strength does, (K,): shares of what the whole update does."""

    lost: Tensor
    old: Tensor


def orthogonal(seed: int) -> Tensor:
    """Return an orthogonal matrix, float64."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(WIDTH, WIDTH, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(matrix).Q


def second_moment(basis: Tensor) -> Tensor:
    """Return C of inputs whose variance along column j of the basis is 1 / (j + 1)^2."""
    variances = 1.0 / torch.arange(1, WIDTH + 1, dtype=torch.float64) ** 2
    return basis * variances @ basis.T


def old_moment(shared: float) -> Tensor:
    """Return C of old inputs, of whose directions a share is that of the new inputs, in order."""
    new, other = orthogonal(0), orthogonal(1)
    every = torch.arange(WIDTH)
    taken = (every * shared).floor() < ((every + 1) * shared).floor()  # every second one for 0.5
    rest = other - new[:, taken] @ (new[:, taken].T @ other)  # orthogonal to what is shared
    columns = new.clone()
    columns[:, ~taken] = torch.linalg.qr(rest).Q[:, : int((~taken).sum())]
    return second_moment(columns)


def trained_update(new: Tensor) -> Tensor:
    """Return dW = B A after Adam on E||(dW - goal) x||^2 over new inputs, from B = 0."""
    generator = torch.Generator().manual_seed(2)
    goal = torch.randn(WIDTH, WIDTH, generator=generator, dtype=torch.float64)
    down = torch.randn(RANK, WIDTH, generator=generator, dtype=torch.float64) / WIDTH**0.5
    up = torch.zeros(WIDTH, RANK, dtype=torch.float64)
    factors = [down.requires_grad_(), up.requires_grad_()]
    optimiser = torch.optim.Adam(factors, lr=0.02)
    for _ in range(STEPS):
        optimiser.zero_grad()
        gap = up @ down - goal
        ((gap @ new) * gap).sum().backward()
        optimiser.step()
    return (up @ down).detach()


def repaired(update: Tensor, new: Tensor, old: Tensor) -> Traded:
    """Return what the repair of an update does at every strength."""
    found = directions(new, old)
    along = (update @ found.into).square().sum(0)  # (d,)
    gone = torch.stack([found.lost(float(mu)) for mu in STRENGTHS])  # (K, d)
    lost = (along * gone.square()).sum(1) / along.sum()
    kept = (along * found.old * (1.0 - gone).square()).sum(1) / (along * found.old).sum()
    return Traded(lost, kept)


def by_scale(lost: Tensor) -> Tensor:
    """Return s^2, what the scale s changes of old outputs, where lost is (1 - s)^2."""
    return (1.0 - lost.sqrt()).square()


def computed() -> dict[str, Traded]:
    """Return kind of old inputs -> what the repair does."""
    new = second_moment(orthogonal(0))
    update = trained_update(new)
    return {kind: repaired(update, new, old_moment(shared)) for kind, shared in KINDS.items()}


def at(traded: Traded, lost: float) -> float:
    """Return the change on old inputs where so much is lost on new ones."""
    place = int(torch.searchsorted(traded.lost, lost))
    share = (lost - traded.lost[place - 1]) / (traded.lost[place] - traded.lost[place - 1])
    return float(traded.old[place - 1] + share * (traded.old[place] - traded.old[place - 1]))


def picture() -> str:
    """Return the plot as SVG."""
    style = {"svg.hashsalt": "why", "font.size": 11, "axes.spines.top": False}
    with plt.rc_context({**style, "axes.spines.right": False}):  # type: ignore[arg-type]
        canvas, axes = plt.subplots(figsize=(7.0, 4.2))
        losses = torch.linspace(0, 0.6, 101, dtype=torch.float64)
        axes.plot(100 * losses, 100 * by_scale(losses), color="#d55e00", lw=5, alpha=0.35,
                  label="the scale, whatever the inputs")  # fmt: skip
        looks = zip(("#57606b", "#0072b2", "#009e73"), (":", "--", "-"), strict=True)
        for (kind, traded), (colour, dashes) in zip(computed().items(), looks, strict=True):
            inside = traded.lost <= 0.6
            axes.plot(100 * traded.lost[inside], 100 * traded.old[inside], dashes, color=colour,
                      label=f"repair; old inputs lie along {kind}")  # fmt: skip
        axes.set_xlabel("lost of what was learnt on new inputs, %")
        axes.set_ylabel("change of old outputs, %\n(100: update as trained)")
        axes.set_xlim(0, 60)
        axes.set_ylim(0, 100)
        axes.grid(color="#e2e5e9")
        axes.legend(frameon=False)
        out = io.StringIO()
        canvas.savefig(out, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(canvas)
    return out.getvalue()


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(picture(), encoding="utf-8")
