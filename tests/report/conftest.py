"""A small tree of experiments: made-up texts, real scoring."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from espnet_blora.report.experiments import Experiment, make_systems
from espnet_blora.scoring import Counts, score
from espnet_blora.scoring.job import by_group
from espnet_blora.scoring.sweep import SweepRow, UtteranceErrors, save_sweep

SETS = {"test_cs": "mixed", "ret_en": "english", "ret_zh": "han"}
HAN = "我你他们要去买东西看电影今天很好"
ENGLISH = "please open the red door and buy two apples near our house".split()
# error rates heard: (new domain, English, Mandarin)
RATES = {
    "asr_none": (0.55, 0.05, 0.03),
    "asr_lora": (0.24, 0.14, 0.07),
    "asr_blora": (0.27, 0.08, 0.04),
}
SWEEPS = {
    "asr_lora": {0.5: (0.40, 0.06, 0.03), 0.6: (0.36, 0.07, 0.04), 0.7: (0.32, 0.09, 0.05)},
    "asr_blora": {0.5: (0.43, 0.05, 0.03), 0.7: (0.35, 0.06, 0.03), 0.9: (0.29, 0.07, 0.04)},
}


def sentence(kind, generator):
    if kind == "han":
        return generator.choices(HAN, k=8)
    if kind == "english":
        return generator.choices(ENGLISH, k=7)
    return [generator.choice(HAN if n % 3 else ENGLISH) for n in range(9)]


def heard(words, rate, generator):
    return [w if generator.random() > rate else generator.choice(["错", "wrong"]) for w in words]


def write_text(path, texts):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{k} {t}\n" for k, t in texts.items()), encoding="utf-8")


def make_tree(root, number=60):
    """Write dump/raw and exp with base, LoRA and BLoRA under `root`."""
    generator = random.Random(0)
    dump, exp = root / "dump" / "raw", root / "exp"
    refs = {}
    for name, kind in SETS.items():
        words = {f"s-{name}-{n:03d}": sentence(kind, generator) for n in range(number)}
        refs[name] = words
        write_text(dump / name / "text", {k: " ".join(w) for k, w in words.items()})
    for experiment, rates in RATES.items():
        folder = exp / experiment
        for (name, words), rate in zip(refs.items(), rates, strict=True):
            hyp = {k: " ".join(heard(w, rate, generator)) for k, w in words.items()}
            where = folder / "decode" / name
            write_text(where / "text", hyp)
            ref = {k: " ".join(w) for k, w in words.items()}
            save(score(ref, hyp), where)
        config = {"seed": 0, "max_epoch": 3, "optim_conf": {"lr": 1e-3}}
        if experiment != "asr_none":
            adapt(folder, experiment.removeprefix("asr_"), config)
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    for experiment, sweep in SWEEPS.items():
        rows = []
        for scale, rates in sweep.items():
            for (name, words), rate in zip(refs.items(), rates, strict=True):
                ref = {k: " ".join(w) for k, w in words.items()}
                hyp = {k: " ".join(heard(w, rate, generator)) for k, w in words.items()}
                rows.append(({"scale": scale, "set": name}, score(ref, hyp)))
        save_sweep(exp / experiment / "scale_sweep.json", rows)
    return exp, dump


def save(scored, where):
    """Write score.json with rates by speaker (three) and by language (two)."""
    ids = [u.id for u in scored.utterances]
    by_speaker = by_group(scored, {k: f"spk{n % 3}" for n, k in enumerate(ids)})
    by_language = by_group(scored, {k: ("en", "zh")[n % 2] for n, k in enumerate(ids)})
    path = where / "score_blora" / "score.json"
    scored.save(path, by_speaker=by_speaker, by_language=by_language)


def experiment(role, rates, sweep=(), name="", extra=0, number=20):
    """An experiment that makes `rates[set]` errors in every utterance of 10 words (and one more in
    every other one); `extra` more in the first utterance of all."""
    name = name or f"asr_{role}"
    label = {"base": "base", "lora": "LoRA", "blora": "BLoRA"}.get(role, name)
    found = Experiment(name, Path(name), role, label)
    for key, wrong in rates.items():
        ref = {f"{key}-{n:02d}": "a b c d e f g h i j" for n in range(number)}
        # 0 or 1 more wrong word from utterance to utterance, so that they differ
        hyp = {}
        for n, (k, t) in enumerate(ref.items()):
            bad = max(0, wrong + n % 2) + (extra if n == 0 else 0)
            hyp[k] = " ".join(["x"] * bad + t.split()[bad:])
        found.scores[key] = score(ref, hyp)
    for scale, new, kept in sweep:
        pair = (("new", new), ("old", kept))
        found.sweep += [sweep_row(scale, key, rate, number=number) for key, rate in pair]
    return found


def sweep_row(scale, name, rate, unit="mer", number=20):
    errors = round(10 * number * rate)
    counts = Counts(10 * number - errors, errors, 0, 0)
    spread = np.full(number, errors // number) + (np.arange(number) < errors % number)
    detail = UtteranceErrors(tuple((f"{name}-{n:02d}", 10) for n in range(number)), spread)
    return SweepRow(scale, name, unit, "basic", number, counts, counts.rate, detail)


def trio(lora, blora, lora_sweep=(), seeds=1, number=20):
    """Systems: base 65 % on the new set, 5 % on the old; LoRA and BLoRA given in tenths."""
    runs = [experiment("base", {"new": 6, "old": 0}, number=number)]
    for role, rates, sweep in (("lora", lora, lora_sweep), ("blora", blora, ())):
        errors = dict(zip(("new", "old"), rates, strict=True))
        for n in range(seeds):
            again = [(scale, *(x + 0.002 * n * (scale > 0) for x in at)) for scale, *at in sweep]
            name = f"asr_{role}_seed{n}" if seeds > 1 else ""
            runs.append(experiment(role, errors, again, name, n, number))
    return make_systems(runs)


def adapt(folder, method, config):
    """Add what training leaves behind."""
    conf = {"rank": 4, "alpha": 8, "target_modules": ["query"]}
    if method == "blora":
        conf["beta"] = 0.02
    config |= {"use_adapter": True, "adapter": method, "adapter_conf": conf}
    torch.manual_seed(1)
    state = {}
    for n in range(2):
        state[f"encoder.blocks.{n}.attn.query.lora_A"] = torch.randn(4, 32) * 0.1
        up = torch.randn(32, 4) * 0.1
        state[f"encoder.blocks.{n}.attn.query.lora_B"] = up**5 if method == "blora" else up
        if method == "blora":
            state[f"encoder.blocks.{n}.attn.query.rho_A"] = torch.full((4, 32), -5.0)
    torch.save(state, folder / "valid.acc.best.pth")
    seconds = 0.25 if method == "lora" else 0.27
    (folder / "train.log").write_text(
        "# python3 -m espnet_blora.run -m espnet2.bin.asr_train --x y\n# Started at ...\n"
        "INFO: adapter 'x' on 2 Linears: trainable parameters 1,024 of 102,400 (1.000 %)\n"
        f"INFO: 1epoch results: [train] iter_time=0.049, train_time={seconds + 1}, time=1\n"
        f"INFO: 2epoch results: [train] iter_time=0.049, train_time={seconds}, time=1\n"
        f"INFO: 3epoch results: [train] iter_time=0.049, train_time={seconds}, time=1\n"
    )


@pytest.fixture(scope="session")
def finished_tree(tmp_path_factory):
    """The tree, with the report written into it once; tests only read it."""
    from espnet_blora.bin.report import main

    root = tmp_path_factory.mktemp("tree")
    exp, dump = make_tree(root)
    sets = ["--test_sets", "test_cs", "--retention_sets", "ret_en ret_zh"]
    assert main(["--exp", str(exp), "--dump", str(dump), *sets]) == 0
    return exp
