"""How often the report claims what is not there, and sees what is: simulated recognisers.

    python -m benchmarks.claims [--runs 400]

Every token has a difficulty, part of it shared by all systems (as is that of its utterance, and of
its speaker), and is wrong where a system's error rate exceeds it. Training again moves a system's
rates on either axis by a factor. The true rates are known, so that claims can be counted.
"""

import argparse
import time

import numpy as np
from scipy.special import ndtr

from espnet_blora.report.gap import SetCounts, gap_test, hull_test, reduction
from espnet_blora.scoring.intervals import difference_interval, rate_interval, units_of

# (utterances, speakers or 0) of the new-domain set and of the retention sets
BEDS = {
    "mini": ([(200, 0)], [(200, 0), (200, 0)]),
    "bed": ([(500, 0)], [(1000, 0), (1000, 0)]),
    "spk10": ([(1000, 10)], [(1000, 10), (1000, 10)]),
}


def new_rate(scale):
    """40 % of the base, 12 % at scale 1."""
    return 0.40 - 0.28 * np.asarray(scale) ** 0.7


def kept_rate(scale, forgets):
    """5 % of the base; at scale 1 `forgets` times as much more."""
    return 0.05 * (1 + forgets * np.asarray(scale) ** 2)


def made(rng, new, utterances, speakers, rates, effect):
    """Return the counts of one set.

    Args:
        rates: By system (S, K): true rates of seed and scale.
        effect: Standard deviation of each system's own effect on each speaker, on log rates.
    """
    lengths = rng.geometric(0.1, utterances)
    owner = np.repeat(np.arange(utterances), lengths)
    shared = rng.normal(0, 0.15**0.5, utterances)[owner] + rng.normal(0, 0.5**0.5, len(owner))
    spoken = rng.integers(0, max(speakers, 1), utterances)
    hard = rng.normal(0, 0.2, max(speakers, 1)) * bool(speakers)
    units = units_of([str(s) if speakers else "" for s in spoken])
    counts = []
    for table in rates:
        own = np.exp(hard + rng.normal(0, effect, len(hard)) * bool(speakers))[spoken][owner]
        errors = np.zeros((*table.shape, utterances))
        for seed, row in enumerate(table):
            level = ndtr(shared + rng.normal(0, 0.35**0.5, len(owner))) / own
            for place, rate in enumerate(row):
                errors[seed, place] = np.bincount(owner[level < rate], minlength=utterances)
        counts.append(units.sums(errors))
    return SetCounts(new, units.sums(lengths), *counts)


def world(
    rng, bed="bed", seeds=3, scale=0.8, less=0.0, forgets=1.0, sd=0.05, scales=None, own=0.05
):
    """Return the counts of one world: the candidate is the rival at `scale`, or forgets `less`.

    Args:
        seeds: Of both systems, or of either.
        less: Share by which the candidate forgets less than the rival at that scale.
        forgets: What the rival forgets at scale 1, relative.
        sd: Of what training again does to log rates, in full from scale 0.5 on.
        scales: The rival's.
        own: `effect` of `made`.
    """
    scales = np.linspace(0, 1, 11) if scales is None else np.asarray(scales)
    numbers = (seeds, seeds) if isinstance(seeds, int) else seeds
    again = [rng.normal(0, sd, (number, 2)) for number in numbers]
    sets = []
    for axis, kinds in enumerate(BEDS[bed]):
        rival = kept_rate(scales, forgets) if axis else new_rate(scales)
        one = kept_rate(scale, forgets) if axis else new_rate(scale)
        one = one - axis * less * (one - 0.05)
        rates = [
            rival * np.exp(np.outer(again[0][:, axis], np.minimum(1, 2 * scales))),
            one * np.exp(again[1][:, axis, None] * min(1, 2 * scale)),
        ]
        sets += [made(rng, not axis, *kind, rates, own) for kind in kinds]
    return sets, scales


def gaps(runs):
    """Print how often the gap is claimed, under the null and where there is one."""
    coarse = {"scales": [0, 0.25, 0.5, 1], "scale": 0.75, "forgets": 2.0}
    half = {"less": 0.5, "forgets": 2.0}
    kinds = {
        "null, mini": {"bed": "mini"},
        "null, bed": {},
        "null, spk10": {"bed": "spk10"},
        "null, bed, 5 seeds": {"seeds": 5},
        "null, bed, 2 seeds": {"seeds": 2},
        "null, bed, 1 seed (5 % assumed)": {"seeds": 1},
        "null, bed, seed sd 10 %": {"sd": 0.1},
        "null, bed, scales 0 .25 .5 1, truth at .75": coarse,
        "null, bed, scales 0 .25 .5 .8 1, truth at .65": {
            "scales": [0, 0.25, 0.5, 0.8, 1],
            "scale": 0.65,
            "forgets": 2.0,
        },
        "half, mini": {"bed": "mini", **half},
        "half, bed": half,
        "half, bed, 5 seeds": {"seeds": 5, **half},
        "half, bed, 1 seed (5 % assumed)": {"seeds": 1, **half},
    }
    print("|world|point estimate|gap test|hull|interval holds the gap|Fieller holds the share|")
    print("|---|---|---|---|---|---|")
    for name, kind in kinds.items():
        rng, told = np.random.default_rng(1), []
        forgets, scale, less = (
            kind.get(k, d) for k, d in (("forgets", 1.0), ("scale", 0.8), ("less", 0.0))
        )
        true = less * (kept_rate(scale, forgets) - 0.05)
        for _ in range(runs):
            sets, scales = world(rng, **kind)
            gap, hull = gap_test(sets, scales), hull_test(sets)
            share = reduction(sets, scales)
            told.append([
                gap.value > 0,
                gap.interval.low > 0,
                hull.p < 0.025 if hull else np.nan,
                gap.interval.low <= true <= gap.interval.high,
                share[1].low <= less <= share[1].high if share else np.nan,
            ])  # fmt: skip
        cells = [f"{100 * x:.1f}" for x in np.array(told, float).mean(axis=0)]
        print(f"|{name}|{'|'.join(cells)}|".replace("nan", "–"), flush=True)


def rates(runs):
    """Print how often the interval of a rate, or of a difference, holds the truth."""
    print("\n|rate of 20 %, 20 utterances of 10 tokens a speaker|by speaker|by utterance|")
    print("|---|---|---|")
    for speakers in (3, 5, 10, 20, 40):
        rng, inside = np.random.default_rng(speakers), np.zeros(2)
        tokens = np.full(20 * speakers, 10)
        names = np.arange(speakers).repeat(20).astype(str).tolist()
        for _ in range(runs):
            errors = rng.binomial(10, 0.2 * np.exp(rng.normal(-0.08, 0.4, speakers)).repeat(20))
            for k, how in enumerate(("speakers", "utterances")):
                found = rate_interval(errors, tokens, units_of(names, how))
                inside[k] += found.low <= 0.2 <= found.high if found else np.nan
        cells = ["none given" if np.isnan(x) else f"{100 * x / runs:.1f}" for x in inside]
        print(f"|{speakers} speakers, sd .4|{'|'.join(cells)}|")
    print("\n|no difference, 10 speakers of 100 utterances|by speaker|by utterance|")
    print("|---|---|---|")
    for effect in (0.05, 0.1):
        rng, clear = np.random.default_rng(7), np.zeros(2)
        tokens, spoken = np.full(1000, 10), np.arange(10).repeat(100)
        for _ in range(runs):
            level = 0.2 * np.exp(rng.normal(0, effect, (2, 10)))[:, spoken]
            errors = rng.binomial(10, level)
            for k, how in enumerate(("speakers", "utterances")):
                units = units_of(spoken.astype(str).tolist(), how)
                found, _ = difference_interval(errors, tokens, units)
                clear[k] += found.low > 0 or found.high < 0
        cells = "|".join(f"{100 * x / runs:.1f}" for x in clear)
        print(f"|method by speaker, sd {effect}: called clear|{cells}|")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=400)
    options, start = parser.parse_args(), time.process_time()
    gaps(options.runs)
    rates(options.runs)
    print(f"\n{options.runs} runs a row, {time.process_time() - start:.0f} s of one core")
