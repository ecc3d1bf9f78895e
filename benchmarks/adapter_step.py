"""Seconds and memory of a training step: LoRA, BLoRA by its samplings, HF PEFT's LoRA.

All in one run, interleaved, on one Whisper of random weights, in processor seconds on the CPU;
every figure is a ratio against our LoRA with the interquartile range of the per-round ratios. The
loss is a cross entropy over the vocabulary plus, for BLoRA, beta * KL; the optimiser is AdamW.
Memory is that of all tensors alive at the peak of a step, weights included.

The weights are as small as trained ones: torch's own N(0, 1) for embeddings gives a loss of 106,
whose gradient is full of numbers below 1e-38, and a processor that is slow at those then needs
five times as long for a step.

    python3 benchmarks/adapter_step.py --width 128 --layers 3 --batch 16 --threads 1
"""

from __future__ import annotations

import argparse
import copy
import platform
import statistics
import time
from functools import partial

import torch
import torch.nn.functional as F
from peers.convert import random_whisper
from whisper.model import ModelDimensions, Whisper

import espnet_blora
from espnet_blora.adapters.memory import step_memory
from espnet_blora.adapters.sampling import SAMPLERS
from espnet_blora.whisper.decoder import forward
from espnet_blora.whisper.encoder import encode

TARGETS = ["query", "key", "value", "out", "mlp.0", "mlp.2"]


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=3.0, help="of audio an utterance")
    parser.add_argument("--tokens", type=int, default=20, help="an utterance")
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser


def peft_lora(model: Whisper, rank: int):
    """HF PEFT's LoRA on the same layers, or None where peft is not installed."""
    try:
        import peft
    except ImportError:
        return None
    config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=TARGETS)
    return peft.inject_adapter_in_model(config, model)


def main() -> None:
    args = get_parser().parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    dims = ModelDimensions(
        80, 1500, args.width, args.width // 64, args.layers,
        51865, 448, args.width, args.width // 64, args.layers,
    )  # fmt: skip
    base = random_whisper(dims)
    wave = torch.randn(args.batch, int(16000 * args.seconds), device=args.device)
    lengths = torch.full((args.batch,), wave.shape[1], device=args.device)
    tokens = torch.randint(0, 50000, (args.batch, args.tokens + 1), device=args.device)

    steps = {}
    rows = {}
    methods = {"lora": {}} | {
        f"blora, {sampling}": {"sampling": sampling, "beta": 0.01} for sampling in SAMPLERS
    }
    for name, conf in methods.items():
        model = copy.deepcopy(base).to(args.device)
        adapter = espnet_blora.add_adapter(
            model, name.split(",")[0], rank=args.rank, alpha=2 * args.rank,
            target_modules=TARGETS, **conf,
        )  # fmt: skip
        rows[name] = sum(p.numel() for p in adapter.trainable_parameters())
        steps[name] = (model, adapter)
    other = peft_lora(copy.deepcopy(base).to(args.device), args.rank)
    if other is not None:
        rows["lora of HF PEFT"] = sum(p.numel() for p in other.parameters() if p.requires_grad)
        steps["lora of HF PEFT"] = (other, None)
    optimizers = {
        name: torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
        for name, (model, _) in steps.items()
    }

    clock = time.process_time if args.device == "cpu" else time.perf_counter

    def step(name: str) -> float:
        model, adapter = steps[name]
        began = clock()
        model.train()
        if adapter is not None:
            adapter.advance()
        memory, memory_lengths = encode(model.encoder, wave, lengths)
        logits = forward(model.decoder, tokens[:, :-1], memory, memory_lengths)
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        if adapter is not None and adapter.bayesian:
            loss = loss + adapter.loss_terms()[0]
        loss.backward()
        optimizers[name].step()
        optimizers[name].zero_grad()
        if args.device != "cpu":
            torch.cuda.synchronize()
        return clock() - began

    peaks = {
        name: step_memory(model.parameters(), partial(step, name)).peak
        for name, (model, _) in steps.items()
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(args.rounds):
        for name in steps:
            times[name].append(step(name))
    print(
        f"torch {torch.__version__}, {platform.machine()}, {args.device}, {args.threads} threads, "
        f"width {args.width}, {args.layers}+{args.layers} layers, all linears, rank {args.rank}, "
        f"{args.batch} x {args.seconds} s, {args.tokens} tokens, {args.rounds} rounds interleaved\n"
    )
    print(
        "| method | trainable | ms a step (median) | ratio to lora (median, quartiles) | peak, MB |"
    )
    print("|---|---|---|---|---|")
    for name, values in times.items():
        ratios = [a / b for a, b in zip(values, times["lora"], strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4)
        print(
            f"| {name} | {rows[name]:,} | {1e3 * statistics.median(values):.0f} | "
            f"{statistics.median(ratios):.2f} ({low:.2f}-{high:.2f}) | {peaks[name] / 1e6:.1f} |"
        )


if __name__ == "__main__":
    main()
