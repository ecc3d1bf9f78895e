"""The steps of the demo: their commands, inputs, results and times."""

from __future__ import annotations

import hashlib
import json
import shlex
from dataclasses import dataclass, field
from pathlib import Path

BASE = "base/tiny_mini_cs.safetensors"
TEST_SETS = "test_cs"  # the new domain
RETENTION_SETS = "ret_en ret_zh"  # what the base model could do before
ADAPTERS = ("lora", "blora")
DRAWS = 4  # of the posterior, whose probabilities are averaged
# 30 utterances are 8 steps an epoch; with the full demo's warm-up the rate would hardly leave zero
TRAIN_CI = ["--set", "max_epoch=3", "--set", "batch_size=4"]
TRAIN_CI += ["--set", "scheduler_conf.warmup_steps=4"]
# name: experiments, data, extra options of run.sh
SCALES = {
    "full": ("exp", "dump", []),
    "ci": (
        "exp_ci",
        "dump/ci",
        ["--corpus_scale", "0.05", "--tag", "demo", *TRAIN_CI],
    ),
}


@dataclass
class Step:
    """One step of the demo.

    Attributes:
        name: Of its log and its markers.
        title: What the user sees.
        command: What runs, in the recipe's folder.
        seconds: Scale -> how long it takes on one of two cores.
        inputs: Files whose change makes it run again.
        after: Steps that must be done before.
        leaves: Files that it must leave.
        folder: Experiment that another configuration must not share.
    """

    name: str
    title: str
    command: list[str]
    seconds: dict[str, float]
    inputs: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    leaves: list[str] = field(default_factory=list)
    folder: str = ""

    def fingerprint(self, earlier: dict[str, str], folder: Path) -> str:
        """Return a digest of the command, the input files (in `folder`) and the steps before."""
        digest = hashlib.sha256(
            json.dumps([self.command, [earlier[n] for n in self.after]]).encode()
        )
        for name in self.inputs:
            digest.update(name.encode() + b"\0" + (folder / name).read_bytes())
        return digest.hexdigest()


def in_environment(module: str, *options: str) -> list[str]:
    """Return the command that runs one of our programs as asr.sh runs them."""
    return ["bash", "-c", f". ./path.sh && exec {shlex.join(['python3', '-m', module, *options])}"]


def plan(scale: str) -> list[Step]:
    """Return the steps of the demo."""
    exp, dump, options = SCALES[scale]
    roles = ["--test_sets", TEST_SETS, "--retention_sets", RETENTION_SETS]
    common = ["--expdir", exp, "--dumpdir", dump, "--whisper", BASE, *roles, *options]
    sets = f"{TEST_SETS} {RETENTION_SETS}"
    tag = "_demo" if scale == "ci" else ""
    scripts = ["run.sh", "cmd.sh", "local/path.sh", "conf/train.yaml", BASE]

    def run(adapter: str, first: int, last: int) -> list[str]:
        stages = ["--stage", str(first), "--stop_stage", str(last)]
        return ["./run.sh", "--adapter", adapter, *stages, *common]

    def decode(adapter: str, after: str, seconds: float) -> Step:
        experiment = f"{exp}/asr_{adapter}{tag}"
        scores = [f"{experiment}/decode/{s}/score_blora/score.json" for s in sets.split()]
        return Step(
            f"decode_{adapter}",
            f"{adapter}: decode and score",
            run(adapter, 12, 13),
            {"full": seconds, "ci": 20},
            ["run.sh", "conf/decode.yaml"],
            [after],
            scores,
        )

    steps = [
        Step(
            "data",
            "make the corpus, the token list and the statistics",
            run("lora", 1, 10),
            {"full": 60, "ci": 30},
            [*scripts, "conf/adapter_lora.yaml", "local/data.sh", "local/make_corpus.py"],
            leaves=[f"{dump}/raw/{s}/text" for s in ["train_cs", *sets.split()]]
            + [f"{exp}/asr_stats/train/speech_shape"],
        ),
        Step(
            "base",
            "none: take the base model as it is",
            run("none", 11, 11),
            {"full": 15, "ci": 10},
            [*scripts, "conf/adapter_none.yaml"],
            ["data"],
            [f"{exp}/asr_none{tag}/config.yaml"],
            f"{exp}/asr_none{tag}",
        ),
        decode("none", "base", 30),
    ]
    for adapter in ADAPTERS:
        folder = f"{exp}/asr_{adapter}{tag}"
        steps += [
            Step(
                f"train_{adapter}",
                f"{adapter}: train",
                run(adapter, 11, 11),
                {"full": 240, "ci": 30},
                [*scripts, f"conf/adapter_{adapter}.yaml"],
                ["data"],
                [f"{folder}/config.yaml", f"{folder}/valid.acc.best.pth"],
                folder,
            ),
            decode(adapter, f"train_{adapter}", 30),
            Step(
                f"sweep_{adapter}",
                f"{adapter}: decode with the adapter turned down (a rival)",
                in_environment(
                    "espnet_blora.bin.sweep",
                    *("--asr_exp", folder, "--dump", f"{dump}/raw", "--whisper", BASE),
                    *("--inference_config", "conf/decode.yaml", "--sets", sets),
                    *(["--scales", "0 0.7 1"] if scale == "ci" else []),
                ),
                {"full": 60, "ci": 15},
                ["conf/decode.yaml"],
                after=[f"train_{adapter}"],
                leaves=[f"{folder}/scale_sweep.{kind}" for kind in ("json", "npz")],
            ),
        ]

    def sure(adapter: str, draws: int) -> Step:
        folder = f"{exp}/asr_{adapter}{tag}"
        way = f"samples{draws}" if draws else "mean"
        return Step(
            f"sure_{adapter}_{way}",
            f"{adapter}: how sure it is of each word, {f'{draws} draws' if draws else 'the mean'}",
            in_environment(
                "espnet_blora.bin.confidence",
                *("--asr_exp", folder, "--dump", f"{dump}/raw", "--whisper", BASE),
                *("--inference_config", "conf/decode.yaml", "--sets", sets),
                *("--samples", str(draws)),
            ),
            {"full": 45 if draws else 15, "ci": 6},
            ["conf/decode.yaml"],
            after=[f"train_{adapter}"],
            leaves=[f"{folder}/confidence/{way}/{name}/words.jsonl" for name in sets.split()],
        )

    steps += [sure("lora", 0), sure("blora", 0), sure("blora", DRAWS)]
    done = [s.name for s in steps if s.name.startswith(("decode_", "sweep_", "sure_"))]
    systems = {"--base": "none", **{f"--{a}": a for a in ADAPTERS}}
    steps.append(
        Step(
            "report",
            "write the report",
            in_environment(
                "espnet_blora.bin.report",
                *("--exp", exp, "--dump", f"{dump}/raw"),
                *(word for option, a in systems.items() for word in (option, f"asr_{a}{tag}")),
                *roles,
            ),
            {"full": 20, "ci": 10},
            after=done,
            leaves=[
                f"{exp}/RESULTS.md",
                *(f"{exp}/retention.{kind}" for kind in ("md", "html", "csv")),
            ],
        )
    )
    return steps
