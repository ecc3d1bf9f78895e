"""What each adapter method costs, on any Whisper: no weights and no accelerator are needed.

The first table is computed on the meta device, which runs a whole training step on shapes alone:
trained and stored numbers, multiplications added to the forward, bytes alive at the step's peak.
The second one is measured here, on a small Whisper of random weights.

    python3 benchmarks/adapter_family.py --whisper large-v2 --scope decoder
    python3 benchmarks/adapter_family.py --methods lora lora:rank=14 dama ssvd:rotation_map=cayley
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import fields, replace
from pathlib import Path

import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from whisper.model import ModelDimensions

import espnet_blora
from espnet_blora.adapters import METHODS
from espnet_blora.adapters.memory import step_memory
from espnet_blora.whisper.sizes import dims_of, empty_modules

TARGETS = ["query", "key", "value", "out", "mlp.0", "mlp.2"]
FULL = "full"


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--whisper", default="large-v2", help="a published size, or a checkpoint")
    parser.add_argument("--scope", default="decoder", choices=("encoder", "decoder", "all"))
    parser.add_argument(
        "--methods", nargs="+", metavar="METHOD[:KEY=VALUE,...]",
        help="default: all that run here, and full fine-tuning",
    )  # fmt: skip
    parser.add_argument("--targets", nargs="+", default=TARGETS)
    parser.add_argument("--rank", type=int, default=32, help="of each method that has this option")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=100, help="an utterance")
    measured = parser.add_argument_group("the measured model")
    measured.add_argument("--width", type=int, default=128)
    measured.add_argument("--layers", type=int, default=6)
    measured.add_argument("--vocabulary", type=int, default=2000)
    measured.add_argument("--frames", type=int, default=200, help="of the encoder's output")
    measured.add_argument("--rounds", type=int, default=9, help="0: nothing is measured")
    measured.add_argument("--threads", type=int, default=1)
    measured.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser


class Case:
    """One method on one Whisper: a model, its adapter, its optimiser and a training step."""

    def __init__(self, label: str, dims: ModelDimensions, args, rank: int, device: str) -> None:
        encoder, decoder = empty_modules(dims, device)
        self.encoder, self.decoder = encoder, decoder
        parts = {"encoder": encoder, "decoder": decoder}
        self.model = nn.ModuleDict(
            parts if args.scope == "all" else {args.scope: parts[args.scope]}
        )
        if device != "meta":
            torch.manual_seed(0)
            nn.init.normal_(decoder.positional_embedding, std=0.02)
        for part in parts.values():
            part.requires_grad_(label == FULL and part in list(self.model.values()))
        name, _, given = label.partition(":")
        self.adapter, self.options = None, ""
        if label != FULL:
            conf = options(name, given, args.targets, rank)
            self.adapter = espnet_blora.add_adapter(self.model, name, **conf)
            self.options = shown(self.adapter.config)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.trainable = sum(p.numel() for p in trained)
        self.optimizer = torch.optim.AdamW(trained, lr=1e-4)
        if self.adapter is not None:
            self.adapter.follow(self.optimizer)
        with torch.device(device):
            self.mel = torch.zeros(args.batch, dims.n_mels, 2 * dims.n_audio_ctx).normal_()
            self.tokens = torch.ones(args.batch, args.tokens + 1, dtype=torch.int64)

    def forward(self) -> Tensor:
        """Return the loss of one batch."""
        if self.adapter is not None:
            self.adapter.advance()
        logits = self.decoder(self.tokens[:, :-1], self.encoder(self.mel))
        return F.cross_entropy(logits.flatten(0, 1), self.tokens[:, 1:].flatten())

    def step(self) -> None:
        """Train on one batch."""
        self.model.train()
        loss = self.forward()
        if self.adapter is not None and self.adapter.has_loss_term:
            term = self.adapter.loss_terms()[0]
            loss = loss + term.to(loss.dtype)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def peak(self) -> int:
        """Return the most bytes of tensors alive in the second training step, weights included.

        A first step makes the optimiser's state, and leaves bases behind.
        """
        parts = (self.encoder, self.decoder)
        tensors = [t for part in parts for t in (*part.parameters(), *part.buffers())]
        return step_memory([*tensors, self.mel, self.tokens], self.step).peak

    def macs(self) -> float:
        """Return the multiply-adds of matrix products in one training forward of the batch."""
        self.model.train()
        with FlopCounterMode(display=False) as counter:
            self.forward()
        return counter.get_total_flops() / 2

    def factors(self) -> list[Tensor]:
        """Return all that the adapter puts into a file."""
        layers = () if self.adapter is None else self.adapter.layers.values()
        return [tensor for layer in layers for tensor in layer.factors().values()]


def options(method: str, given: str, targets: list[str], rank: int) -> dict:
    """Return adapter_conf: rank and alpha where the method has them, then what is given."""
    conf: dict = {"target_modules": targets}
    known = {f.name: f.default for f in fields(METHODS[method].config)} if method in METHODS else {}
    if known.get("rank") is not None and "rank" in METHODS[method].config.options():
        conf["rank"] = rank
        if "alpha" in known:
            conf["alpha"] = 2 * rank
        if "target_rank" in known:  # AdaLoRA: as published, from half as much again
            conf |= {"rank": rank * 3 // 2, "target_rank": rank, "total_steps": 1000}
    for pair in filter(None, given.split(",")):
        key, _, value = pair.partition("=")
        conf[key] = yaml.safe_load(value)
    return conf


def shown(config) -> str:
    """Return the numbers among the options that decide what is trained."""
    values = {key: getattr(config, key) for key in config.structural}
    return ", ".join(
        f"{key} {value:g}"
        for key, value in values.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    )


def computed(args) -> list[str]:
    """Print the table that needs no device; return the methods that can be run."""
    dims = dims_of(args.whisper)
    base = Case("lora:rank=1", dims, args, 1, "meta")
    with base.adapter.disabled():
        base_macs = base.macs()
    cases, reasons = {}, []
    for label in args.methods or [*METHODS, FULL]:
        try:
            cases[label] = Case(label, dims, args, args.rank, "meta")
        except ValueError as error:
            if args.methods:
                raise
            reasons.append(f"{label} did not run: {error}")
    print(
        f"\nWhisper {args.whisper}, {args.scope}, targets {' '.join(args.targets)}; fp32, batch "
        f"{args.batch} x 30 s ({dims.n_audio_ctx} frames), {args.tokens} tokens, AdamW; computed "
        "on the meta device. GMACs: of matrix products, in a training forward. Peak: tensors alive "
        "in a training step, weights included, temporary ones inside kernels not.\n"
    )
    print(
        "| method | options | trainable | = LoRA of rank | stored, frozen | file, MB | "
        "extra GMACs an utterance | peak of a step, GB |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for label, case in cases.items():
        extra = (case.macs() - base_macs) / args.batch / 1e9
        size = sum(t.numel() * t.element_size() for t in case.factors()) / 1e6
        equal, stored = "", 0
        if case.adapter is not None:
            equal = f"{case.trainable / base.trainable:.2f}"
            stored = case.adapter.report()["stored"]
        else:
            size = 4 * case.trainable / 1e6
        try:
            peak = f"{case.peak() / 1e9:.2f}"
        except RuntimeError as error:  # an operation that torch has not for the meta device
            peak = "?"
            reasons.append(f"{label} has no peak: no step on the meta device ({error})")
        print(
            f"| {label} | {case.options} | {case.trainable:,} | {equal} | {stored:,} | "
            f"{size:.1f} | {extra:.2f} | {peak} |",
            flush=True,
        )
    print("".join(f"\n{reason}\n" for reason in reasons))
    return list(cases)


def measured(args, methods: list[str]) -> None:
    """Print the table that is measured here."""
    torch.set_num_threads(args.threads)
    heads = max(1, args.width // 64)
    dims = replace(
        dims_of("tiny"), n_audio_ctx=args.frames, n_audio_state=args.width, n_audio_head=heads,
        n_audio_layer=args.layers, n_text_state=args.width, n_text_head=heads,
        n_text_layer=args.layers, n_vocab=args.vocabulary,
    )  # fmt: skip
    cases = {label: Case(label, dims, args, args.rank, args.device) for label in methods}
    peaks, prepared = {}, {}
    for label, case in cases.items():
        began = time.perf_counter()
        if case.adapter is not None:
            case.adapter.prepare()
        prepared[label] = time.perf_counter() - began
        peaks[label] = case.peak()
    times: dict[str, list[float]] = {label: [] for label in cases}
    for _ in range(args.rounds):
        for label, case in cases.items():
            began = time.perf_counter()
            case.step()
            if args.device != "cpu":
                torch.cuda.synchronize()
            times[label].append(time.perf_counter() - began)
    load = f"{os.getloadavg()[0]:.1f}"
    print(
        f"\nMeasured: torch {torch.__version__}, {platform.machine()}, {args.device}, "
        f"{args.threads} threads, load of the machine {load}; width {args.width}, "
        f"{args.layers} + {args.layers} layers, vocabulary {args.vocabulary}, {args.frames} "
        f"frames, rank {args.rank}, {args.scope}, batch {args.batch}, {args.tokens} "
        f"tokens, fp32, AdamW; {args.rounds} rounds interleaved\n"
    )
    first = next(iter(cases))
    print(
        "| method | options | trainable | file, kB | bases, s | ms a step (median) | "
        f"ratio to {first} (quartiles) | peak, MB |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for label, case in cases.items():
        ratios = [a / b for a, b in zip(times[label], times[first], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(
            f"| {label} | {case.options} | {case.trainable:,} | {file_size(case) / 1e3:.0f} | "
            f"{prepared[label]:.2f} | {1e3 * statistics.median(times[label]):.0f} | "
            f"{middle:.2f} ({low:.2f}-{high:.2f}) | {peaks[label] / 1e6:.1f} |"
        )


def file_size(case: Case) -> int:
    """Return the bytes of the adapter's file; for full fine-tuning, of what trains."""
    if case.adapter is None:
        return 4 * case.trainable
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "adapter.safetensors"
        case.adapter.save(path)
        return path.stat().st_size


def main() -> None:
    args = get_parser().parse_args()
    try:
        methods = computed(args)
        if args.rounds:
            measured(args, methods)
    except (ValueError, FileNotFoundError) as error:
        print(f"adapter_family.py: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
