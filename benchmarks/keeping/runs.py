"""Trainings of a bed, and what each of them scores over its knob: one JSON a run.

The loop is ESPnet's trainer as the recipe sets it up (batches of like length in an order of the
seed's, AdamW, a rate that rises in 40 steps and falls along a cosine to 2 %, clipping at 1, label
smoothing 0.1), without its files; the last step is kept. Adapter, terms of the loss, moments,
repair, search and scoring are the package's.
"""

from __future__ import annotations

import base64
import itertools
import json
import math
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from espnet_blora.adapters import METHODS, Adapter
from espnet_blora.adapters.fingerprint import base_names
from espnet_blora.adapters.fisher import diagonal_fisher, save_fisher
from espnet_blora.adapters.moments import read_moments
from espnet_blora.adapters.repair import Repair
from espnet_blora.adapters.targets import find_targets
from espnet_blora.plugin.model import smoothed_cross_entropy
from espnet_blora.plugin.retain import distillation
from espnet_blora.utils import atomic

from .bed import TARGETS, Bed, alone
from .kfac import Curvature, curvatures, penalty

EPOCHS, BATCH, WARMUP, LEAST, SMOOTHING = 7, 8, 40, 0.02, 0.1
KNOBS = (0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9, 1.0)
"""Scales of the update; of a repair, 1 / (1 + mu), its scale where old inputs are like new ones."""
COMMON = {"rank": 32, "alpha": 64, "target_modules": TARGETS}
HEARD = 250  # utterances of the training whose moments a repair takes
BASE = "base"


@dataclass(frozen=True)
class Setting:
    """How one system is trained.

    Attributes:
        method: Its name in tables.
        adapter: The package's method.
        lr: The highest rate.
        decay: Decoupled weight decay.
        epochs: Of the training; 0: as many as the other settings'.
        conf: More of `adapter_conf`.
        retain: `kind`, `every` and `weight` of a term on old audio: what the base says of it, or
            the penalty by K-FAC; empty for none.
        old: The set of old audio that is used; "" for none.
        repair: Whether the knob is that of a repair.
    """

    method: str
    adapter: str
    lr: float = 1e-3
    decay: float = 0.0
    epochs: int = 0
    conf: Mapping[str, Any] = field(default_factory=dict)
    retain: Mapping[str, Any] = field(default_factory=dict)
    old: str = ""
    repair: bool = False

    @property
    def name(self) -> str:
        """A name that tells it from the other settings of its method."""
        more = {**{k: v for k, v in self.conf.items() if k in _NAMED}, **self.retain}
        words = [f"{key}{value}" for key, value in more.items() if key != "kind"]
        decay = [f"decay{self.decay:g}"] if self.decay else []
        epochs = [f"epochs{self.epochs}"] if self.epochs else []
        old = [self.old] if self.old else []
        return "-".join([self.method, f"lr{self.lr:g}", *decay, *epochs, *words, *old])

    @property
    def training(self) -> Setting:
        """The training that a repair starts from; otherwise itself."""
        return replace(self, method=self.adapter, repair=False, old="") if self.repair else self


_NAMED = ("strength", "beta", "prior_std", "prior_tau", "preset", "rank")


def read_plan(path: Path) -> dict[str, list[Setting]]:
    """Return {method: settings} of a plan: each method's options, and under `over` their axes.

    Of one grid of axes, or of a list of grids.
    """
    plan = {}
    for method, entry in yaml.safe_load(path.read_text("utf-8")).items():
        over = entry.pop("over", {})
        settings = []
        for axes in over if isinstance(over, list) else [over]:
            for values in itertools.product(*axes.values()):
                settings.append(_setting(method, entry, dict(zip(axes, values, strict=True))))
        plan[method] = settings
    return plan


def _setting(method: str, entry: Mapping[str, Any], chosen: dict[str, Any]) -> Setting:
    own = {k: chosen.pop(k) for k in ("lr", "decay", "epochs", "old") if k in chosen}
    retain = dict(entry.get("retain", {}))
    retain |= {k: chosen.pop(k) for k in ("every", "weight") if k in chosen}
    conf = {**entry.get("conf", {}), **chosen}
    common = {k: v for k, v in entry.items() if k not in ("conf", "retain")}
    return Setting(method, **{**common, **own}, conf=conf, retain=retain)


@dataclass(frozen=True)
class Sets:
    """The names of a bed's sets.

    Attributes:
        new: Ending of the new domain's sets.
        languages: Endings of the old domain's.
    """

    new: str
    languages: tuple[str, ...] = ("en", "zh")

    @property
    def train(self) -> str:
        return f"train_{self.new}"

    @property
    def valid(self) -> list[str]:
        return [f"valid_{self.new}", *(f"valid_{code}" for code in self.languages)]

    @property
    def final(self) -> list[str]:
        return [f"test_{self.new}", *(f"ret_{code}" for code in self.languages)]


class Runs:
    """All runs of one bed.

    Args:
        bed: With the sets of `sets`, and the sets of old audio that settings name.
        sets: Their names.
        results: Folder of the JSON files.
        work: Folder of adapters and moments, which can be made again.
        epochs: Of a training whose setting does not say.
        knobs: Its values, rising; a repair's end at 1.
    """

    def __init__(
        self,
        bed: Bed,
        sets: Sets,
        results: Path,
        work: Path,
        epochs: int = EPOCHS,
        knobs: Sequence[float] = KNOBS,
    ) -> None:
        self.bed, self.sets, self.results, self.epochs = bed, sets, results, epochs
        self.knobs = knobs
        self.about = {"base": bed.digest, "tokens": len(bed.kept), "epochs": epochs}
        self.work = work / "-".join(map(str, self.about.values()))

    def path(self, setting: Setting | None, seed: int = 0) -> Path:
        """Return the JSON of a run; of the base without a setting."""
        name = BASE if setting is None else f"{setting.name}-seed{seed}"
        return self.results / f"{name}.json"

    def values(self, setting: Setting) -> list[float]:
        """Return the knob's values: a repair turns nothing up."""
        return [knob for knob in self.knobs if knob <= 1 or not setting.repair]

    def run(self, setting: Setting | None, seed: int, wanted: Sequence[str]) -> bool:
        """Make a run, or what it lacks of these sets, unless another process does so.

        Returns:
            Whether anything was made.
        """
        path = self.path(setting, seed)
        with alone(self.work / path.name, wait=False) as mine:
            before = json.loads(path.read_text()) if path.is_file() else {}
            missing = [name for name in wanted if name not in before.get("sets", {})]
            if not (mine and missing):
                return False
            if any(before.get(key, value) != value for key, value in self.about.items()):
                raise SystemExit(f"{path} is of another base, table or training: move it away")
            if setting and before.get("knobs", values := self.values(setting)) != values:
                raise SystemExit(f"{path} has other values of the knob: ask for those, or move it")
            about = {"seed": seed, **self.about}
            if setting is None:
                points: Iterator = iter([(0.0, {})])
            else:
                adapter, seconds = self._trained(setting.training, seed)
                old = self.bed.sets[setting.old].seconds if setting.old else 0.0
                about |= {"setting": asdict(setting), "train_s": seconds, "old_s": old}
                points = self._points(setting, adapter, seed)
            began = time.process_time()
            knobs, sets = self._scores(points, missing)
            about["decode_s"] = round(time.process_time() - began + before.get("decode_s", 0), 1)
            whole = {**about, "knobs": knobs, "sets": {**before.get("sets", {}), **sets}}
            atomic.write(path, json.dumps(whole, indent=1) + "\n")
        return True

    # ---- training ----

    def _trained(self, setting: Setting, seed: int) -> tuple[Adapter, float]:
        """Return an adapter, trained or from its file, and the processor seconds it took."""
        path = self.work / f"{setting.name}-seed{seed}.pt"
        known = METHODS[setting.adapter].config.options()
        conf = {key: value for key, value in COMMON.items() if key in known} | dict(setting.conf)
        if "seed" in known:  # of a posterior's noise
            conf["seed"] = seed
        if setting.adapter == "lora_keep" or conf.get("prior") == "moments":
            conf["keep_file"] = str(self._moments(setting.old))
        if setting.adapter == "lora_ewc":
            conf["fisher_file"] = str(self._fisher(setting.old))
        torch.manual_seed(seed)
        model, adapter = self.bed.adapted(setting.adapter, conf)
        with alone(path):
            if path.is_file():
                saved = torch.load(path)
                with torch.no_grad():
                    for name, value in adapter.factors().items():
                        value.copy_(saved["factors"][name])
                for layer in adapter.layers.values():
                    layer.read_ready()
                return adapter, saved["seconds"]
            began = time.process_time()
            self._train(model, adapter, setting, seed)
            seconds = round(time.process_time() - began, 1)
            factors = {name: value.detach() for name, value in adapter.factors().items()}
            with atomic.writing(path) as file:
                torch.save({"factors": factors, "seconds": seconds}, file)
        return adapter, seconds

    def _train(self, model: nn.Module, adapter: Adapter, setting: Setting, seed: int) -> None:
        model.train()
        # The optimiser; scales of a posterior do not decay.
        trained = adapter.trainable_parameters()
        kept = [p for p in trained if getattr(p, "_no_weight_decay", False)]
        others = [p for p in trained if not getattr(p, "_no_weight_decay", False)]
        groups = [{"params": others}, {"params": kept, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=setting.lr, weight_decay=setting.decay)
        adapter.follow(optimizer)
        # The batches: those of the new domain, and old ones now and then.
        s = self.bed.sets[self.sets.train]
        rng = np.random.default_rng([seed, 1])
        batches = s.batches(BATCH)
        order = [
            batches[i]
            for _ in range(setting.epochs or self.epochs)
            for i in rng.permutation(len(batches))
        ]
        old = self._old_term(model, adapter, setting, seed) if setting.retain else None
        for step, rows in enumerate(order):
            for group in optimizer.param_groups:
                group["lr"] = setting.lr * rate_at(step, len(order))
            adapter.advance()
            logits, targets = self.bed.logits(model, s, rows, [s.tokens[row] for row in rows])
            loss = smoothed_cross_entropy(logits, targets, SMOOTHING) / len(targets)
            if adapter.has_loss_term:
                loss = loss + adapter.loss_terms()[0].to(loss.dtype)
            if old is not None and step % setting.retain["every"] == 0:
                loss = loss + setting.retain["weight"] * next(old)
            loss.backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        model.eval()

    def _old_term(
        self, model: nn.Module, adapter: Adapter, setting: Setting, seed: int
    ) -> Iterator[Tensor]:
        """Yield the term of one batch of old audio after the other, languages mixed."""
        if setting.retain["kind"] == "kfac":  # of all of it
            known = self._curvatures(setting.old)
            while True:
                yield penalty(adapter.layers, known)
        s = self.bed.sets[setting.old]
        texts = self._said(setting.old)
        rng = np.random.default_rng([seed, 2])
        while True:
            for rows in itertools.batched(rng.permutation(len(s.ids)).tolist(), BATCH):
                told = [texts[row] for row in rows]
                logits, targets = self.bed.logits(model, s, rows, told)
                if setting.retain["kind"] == "replay":
                    yield smoothed_cross_entropy(logits, targets, SMOOTHING) / len(targets)
                    continue
                with torch.no_grad(), adapter.disabled():
                    base, _ = self.bed.logits(model, s, rows, told)
                yield distillation(logits, base)

    # ---- what is known of old audio ----

    def _said(self, name: str) -> list[tuple[int, ...]]:
        """Return the base's own transcripts of a set."""
        path = self.work / f"{name}.said.json"
        with alone(path):
            if not path.is_file():
                said = self.bed.transcribe(self.bed.sets[name], {})
                atomic.write(path, json.dumps(said))
        return json.loads(path.read_text())

    def _moments(self, name: str) -> Path:
        return self.bed.hear(name, self.work / f"{name}.moments", None, None)

    def _fisher(self, name: str) -> Path:
        """Return the file of Fisher information, taken on the base's own transcripts of a set."""
        path = self.work / f"{name}.fisher"
        rows = range(len(self.bed.sets[name].ids))
        with alone(path):
            if path.is_file():
                return path
            model = self.bed.plain()
            linears = find_targets(model, TARGETS)
            weights = {f"{linear}.weight": module.weight for linear, module in linears.items()}
            fisher = diagonal_fisher(weights, rows, self._nll(model, name))
            base = {key: model.get_parameter(key) for key in base_names(model, linears)}
            save_fisher(path, fisher, base, {"sets": [name]})
        return path

    def _curvatures(self, name: str) -> dict[str, Curvature]:
        """Return what K-FAC knows of the base, of the same data as `_fisher`."""
        path = self.work / f"{name}.kfac"
        rows = range(len(self.bed.sets[name].ids))
        with alone(path):
            if not path.is_file():
                model = self.bed.plain()
                known = curvatures(find_targets(model, TARGETS), rows, self._nll(model, name))
                with atomic.writing(path) as file:
                    torch.save({linear: tuple(both) for linear, both in known.items()}, file)
        return {linear: Curvature(*both) for linear, both in torch.load(path).items()}

    def _nll(self, model: nn.Module, name: str) -> Callable[[int], tuple[Tensor, int]]:
        """Return row -> negative log likelihood of the base's own transcript, and its tokens."""
        texts, s = self._said(name), self.bed.sets[name]

        def nll(row: int) -> tuple[Tensor, int]:
            logits, targets = self.bed.logits(model, s, [row], [texts[row]])
            return cross_entropy(logits, targets, reduction="sum"), len(targets)

        return nll

    def _repair(self, setting: Setting, adapter: Adapter, seed: int) -> Repair:
        """Return the repair of a trained adapter."""
        heard = self.work / f"{setting.training.name}-seed{seed}.moments"
        files = self._moments(setting.old), self.bed.hear(self.sets.train, heard, adapter, HEARD)
        weights = dict(adapter.model.named_parameters())
        keep, new = (read_moments(file, weights, adapter.layers, "batch") for file in files)
        return Repair(adapter.method, adapter.layers, keep, new)

    # ---- scores ----

    @torch.no_grad()
    def _points(
        self, setting: Setting, adapter: Adapter, seed: int
    ) -> Iterator[tuple[float, dict[str, Tensor]]]:
        """Yield each value of the knob, with the weights that it gives."""
        repair = self._repair(setting, adapter, seed) if setting.repair else None
        for knob in self.values(setting):
            moved = repair.applied(1 / knob - 1) if repair else adapter.scaled(knob)
            with moved:
                yield knob, {n: la.weight + la.delta_weight() for n, la in adapter.layers.items()}

    def _scores(
        self, points: Iterator[tuple[float, dict[str, Tensor]]], wanted: Sequence[str]
    ) -> tuple[list[float], dict]:
        """Return the knob's values and, by set, tokens (U,) and errors (K, U)."""
        knobs: list[float] = []
        errors: dict[str, list[np.ndarray]] = {}
        tokens: dict[str, np.ndarray] = {}
        for knob, weights in points:
            knobs.append(knob)
            for name in wanted:
                s = self.bed.sets[name]
                counts = self.bed.errors(s, self.bed.transcribe(s, weights))
                errors.setdefault(name, []).append(counts[:, 0])
                tokens[name] = counts[:, 1]
        sets = {
            name: {
                "rates": [round(float(e.sum() / tokens[name].sum()), 5) for e in errors[name]],
                "tokens": packed(tokens[name]),
                "errors": packed(np.array(errors[name])),
            }
            for name in errors
        }
        return knobs, sets


def rate_at(step: int, steps: int) -> float:
    """Return the share of the highest rate at a step."""
    if step < WARMUP:
        return LEAST + (1 - LEAST) * step / WARMUP
    along = (step - WARMUP) / max(1, steps - WARMUP)
    return LEAST + (1 - LEAST) * 0.5 * (1 + math.cos(math.pi * along))


def packed(counts: np.ndarray) -> dict:
    """Return counts (..., U) in few characters."""
    data = zlib.compress(np.ascontiguousarray(counts, dtype="<i2").tobytes(), 9)
    return {"shape": list(counts.shape), "zlib_int16": base64.b64encode(data).decode()}


def unpacked(packed: Mapping[str, Any]) -> np.ndarray:
    """Undo `packed`."""
    data = zlib.decompress(base64.b64decode(packed["zlib_int16"]))
    return np.frombuffer(data, dtype="<i2").reshape(packed["shape"]).astype(int)
