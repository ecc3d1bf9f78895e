"""The steps of the demo: their commands, inputs, results and times."""

from __future__ import annotations

import hashlib
import json
import shlex
from dataclasses import dataclass, field
from pathlib import Path

MINI_CS = "../../mini_cs/asr1"  # has the base, the corpus's program, more of conf/
BASE = f"{MINI_CS}/base/tiny_mini_cs.safetensors"
DECODE = f"{MINI_CS}/conf/decode.yaml"
TRAIN = "conf/bed/train.yaml"
TEST_SETS = "test_noisy"  # the new domain
RETENTION_SETS = "ret_en ret_zh"  # what the base model could do before
ADAPTERS = ("lora", "blora", "lora_keep")
DRAWS = 4  # of the posterior, whose probabilities are averaged
REPAIR = "0.5"  # strength of the repair that is scored; a sweep has more
# 30 utterances are 8 steps an epoch; with the full demo's warm-up the rate would hardly leave zero
TRAIN_CI = ["--set", "max_epoch=3", "--set", "batch_size=4"]
TRAIN_CI += ["--set", "scheduler_conf.warmup_steps=4"]
TRAIN_CI += ["--set", "scheduler_conf.first_cycle_steps=25"]
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
    scripts = ["run.sh", "cmd.sh", "local/path.sh", "local/bed.sh", TRAIN, BASE]

    def run(adapter: str, first: int, last: int, *more: str) -> list[str]:
        stages = ["--stage", str(first), "--stop_stage", str(last)]
        return ["./run.sh", "--adapter", adapter, *stages, *common, *more]

    def decode(
        name: str, adapter: str, after: str, title: str, way: str = "decode", *also: str
    ) -> Step:
        experiment = f"{exp}/asr_{adapter}{tag}"
        return Step(
            name,
            title,
            run(adapter, 12, 13, *(("--repair", REPAIR) if "repair" in way else ())),
            {"full": 60, "ci": 20},
            ["run.sh", DECODE],
            [after, *also],
            [f"{experiment}/{way}/{s}/score_blora/score.json" for s in sets.split()],
        )

    def sweep(name: str, adapter: str, after: str, title: str, *options: str) -> Step:
        folder = f"{exp}/asr_{adapter}{tag}"
        kind = "repair" if "--repair" in options else "scale"
        return Step(
            name,
            title,
            in_environment(
                "espnet_blora.bin.sweep",
                *("--asr_exp", folder, "--dump", f"{dump}/raw", "--whisper", BASE),
                *("--inference_config", DECODE, "--sets", sets, *options),
            ),
            {"full": 150, "ci": 15},
            [DECODE],
            [after],
            [f"{folder}/{kind}_sweep.{ending}" for ending in ("json", "npz")],
        )

    steps = [
        Step(
            "data",
            "make the corpus, the token list and the statistics",
            run("lora", 1, 10),
            {"full": 120, "ci": 30},
            [
                *(*scripts, "conf/adapter_lora.yaml", "local/data.sh"),
                f"{MINI_CS}/local/make_corpus.py",
            ],
            leaves=[f"{dump}/raw/{s}/text" for s in ["train_noisy", *sets.split()]]
            + [f"{exp}/asr_stats/train/speech_shape"],
        ),
        Step(
            "base",
            "none: take the base model as it is",
            run("none", 11, 11),
            {"full": 15, "ci": 10},
            [*scripts, f"{MINI_CS}/conf/adapter_none.yaml"],
            ["data"],
            [f"{exp}/asr_none{tag}/config.yaml"],
            f"{exp}/asr_none{tag}",
        ),
        decode("decode_none", "none", "base", "none: decode and score"),
    ]
    scales = "0 0.7 1" if scale == "ci" else "0 0.5 0.7 0.85 1"
    for adapter in ADAPTERS:
        conf = "conf/bed" if adapter == "lora_keep" else "conf"  # one for all beds, or this one's
        folder = f"{exp}/asr_{adapter}{tag}"
        trained = f"train_{adapter}"
        steps += [
            Step(
                trained,
                f"{adapter}: train",
                run(adapter, 11, 11),
                {"full": 150, "ci": 30},
                [*scripts, f"{conf}/adapter_{adapter}.yaml"],
                ["data"],
                [f"{folder}/config.yaml", f"{folder}/valid.acc.best.pth"],
                folder,
            ),
            decode(f"decode_{adapter}", adapter, trained, f"{adapter}: decode and score"),
            sweep(
                f"sweep_{adapter}",
                adapter,
                trained,
                f"{adapter}: decode with the adapter turned down",
                *("--scales", scales),
            ),
        ]

    # A repair needs what the base's layers are given, which lora_keep's training makes, and what
    # the adapted ones are, which the decoding makes.
    kept = f"{exp}/keep_{Path(BASE).stem}/old_10min.moments"
    new = f"{exp}/asr_lora{tag}/new.moments"
    strengths = REPAIR if scale == "ci" else f"0.1 0.2 {REPAIR} 1"
    moments = ("--keep", kept, "--new", new)
    steps += [
        decode(
            "repair_lora",
            "lora",
            "train_lora",
            "lora: repair it, decode and score",
            f"decode_repair{REPAIR}",
            "train_lora_keep",
        ),
        sweep(
            "sweep_repair",
            "lora",
            "repair_lora",
            "lora: decode with more and less repair",
            *("--repair", strengths, *moments),
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
                *("--inference_config", DECODE, "--sets", TEST_SETS, "--samples", str(draws)),
            ),
            {"full": 45 if draws else 15, "ci": 6},
            [DECODE],
            after=[f"train_{adapter}"],
            leaves=[f"{folder}/confidence/{way}/{name}/words.jsonl" for name in TEST_SETS.split()],
        )

    steps += [sure("lora", 0), sure("blora", 0), sure("blora", DRAWS)]
    done = [s.name for s in steps if s.name.startswith(("decode_", "sweep_", "sure_"))]
    systems = {"--base": "none", "--lora": "lora", "--blora": "blora", "--others": "lora_keep"}
    steps.append(
        Step(
            "report",
            "write the report",
            in_environment(
                "espnet_blora.bin.report",
                *("--exp", exp, "--dump", f"{dump}/raw"),
                *(word for option, a in systems.items() for word in (option, f"asr_{a}{tag}")),
                *("--labels", f"asr_lora_keep{tag}=LoRA that keeps"),
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
