"""What was published, beside what was found here.

The BLoRA paper: arXiv 2510.18723 (abstract and text; its tables could not all be checked against
a second source, and it does not give the formula of its backward gain). Forgetting of LoRA as
others saw it, quoted at second hand: the Whisper-Finetune project on Cantonese; OpenReview
bAzF6Kqnuq.
"""

from __future__ import annotations

from espnet_blora.report.analysis import ALL_SETS, Analysis, Comparison
from espnet_blora.report.figures import Figure
from espnet_blora.report.sparsity import mean_over
from espnet_blora.report.systems import System
from espnet_blora.report.tables import ABSENT, Table, figure, percent, table

BLORA = "BLoRA, arXiv 2510.18723"
REMARK = (
    "Published figures are of other data (SEAME, ArzEn, Fisher), of a large base, of far longer "
    "trainings and of the authors' own text treatment: they say what to look for, not what must "
    "come out here. The paper does not say which of the two backward gains it means."
)


def paper_table(found: Analysis) -> Table:
    """Return measure, ours, published, source; a dash where this run has no such figure."""
    lora, blora = (next((s for s in found.systems if s.role == r), None) for r in ("lora", "blora"))
    pair = next((c for c in found.comparisons if (c.a, c.b) == (blora, lora)), None)
    rows = [
        ("backward gain of BLoRA over LoRA", _of(pair, "backward gain"), "+54 %", BLORA),
        (
            "the same, on degradations",
            _of(pair, "backward gain on degradations"),
            "+54 % (if that is meant)",
            BLORA,
        ),
        ("new-domain change, BLoRA against LoRA", _of(pair, "new-domain change"), "-4 %", BLORA),
        (
            "backward degradation of BLoRA",
            _in(found.mean_degradation, blora),
            "0.13 % (SEAME)",
            BLORA,
        ),
        ("new-domain gain of BLoRA", _in(found.new_gain, blora), "28 % (SEAME)", BLORA),
        (
            "backward degradation of LoRA",
            _in(found.mean_degradation, lora),
            "49 %; interpolated weights 3.4 %",
            "OpenReview bAzF6Kqnuq",
        ),
        (
            "the same",
            _in(found.mean_degradation, lora),
            "+54 % AISHELL, +183 % net, +81 % meeting (CER 8.1 → 12.4, 11.5 → 32.4, 19.9 → 35.9)",
            "Whisper-Finetune, large-v3 on Cantonese",
        ),
    ]
    for what, key, told in (
        ("share of |w| < 0.001 in ΔW", "below", {"blora": "99.7 %"}),
        ("energy in the largest 1 % of ΔW", "top_energy", {"blora": "37.5 %", "lora": "9.2 %"}),
        ("Hoyer index of ΔW", "hoyer", {"blora": "0.45", "lora": "0.22"}),
    ):
        for system, role in ((blora, "blora"), (lora, "lora")):
            if role in told:
                name = "BLoRA" if role == "blora" else "LoRA"
                rows.append((f"{what}, {name}", _sparse(system, key), told[role], BLORA))
    rows.append(
        ("time of a training step, BLoRA's over LoRA's", _time(blora, lora), "+8 to +10 %", BLORA)
    )
    return table(("measure", "here", "published", "source"), rows, REMARK)


def _of(pair: Comparison | None, title: str) -> str:
    return _percent(pair.figures.get(title, {}).get(ALL_SETS) if pair else None)


def _in(figures: dict[str, Figure], system: System | None) -> str:
    return _percent(figures.get(system.name) if system else None)


def _percent(one: Figure | None) -> str:
    text = figure(one)
    value, blank, rest = text.partition(" ")
    return text if one is None or one.value is None else f"{value} %{blank}{rest}"


def _sparse(system: System | None, key: str) -> str:
    found = mean_over(r.sparsity for r in system.runs).get("delta W") if system else None
    if found is None:
        return ABSENT
    value = getattr(found, key)
    return f"{value:.2f}" if key == "hoyer" else f"{percent(value)} %"


def seconds(system: System | None) -> float | None:
    """Return the seconds a training step took, the mean over seeds."""
    times = [r.training.seconds_per_step for r in system.runs if r.training] if system else []
    times = [t for t in times if t]
    return sum(times) / len(times) if times else None


def _time(blora: System | None, lora: System | None) -> str:
    mine, theirs = seconds(blora), seconds(lora)
    return ABSENT if not mine or not theirs else f"{percent(mine / theirs - 1, sign=True)} %"
