"""Does one setting of BLoRA train at every width? LoRA and BLoRA on Whispers of several widths.

Speech is synthetic: a symbol is a spectrum of 80 mel bins that lasts some frames, under noise. Per
width, a Whisper of random weights first learns symbols of one tempo, with all of its weights; then
each method adapts query and key to a faster tempo and more noise, with the recipes' rate. The table
holds the loss per token on utterances that nothing was trained on, the share of the first method's
fall of it, and the norm of the update against the first method's.

    python3 benchmarks/kl_weight.py          # 15 minutes on an idle core, most of it 768
    python3 benchmarks/kl_weight.py --widths 128 --methods lora:rank=8 blora:preset=any_size,rank=8
"""

from __future__ import annotations

import argparse
import copy
import platform

import torch
import torch.nn.functional as F
import yaml
from torch import Tensor
from whisper.model import ModelDimensions, Whisper

import espnet_blora
from espnet_blora.adapters.adapter import Adapter

METHODS = ["lora", "blora:preset=any_size", "blora:preset=any_size,num_tokens=20000"]
METHODS += ["blora:preset=paper"]
TARGETS = ["query", "key"]
SYMBOLS, BINS, FRAMES, LENGTH, BATCH = 24, 80, 48, 8, 8
START = SYMBOLS  # the token before the first symbol
OLD, NEW = (6, 0.5), (4, 1.0)  # frames of a symbol, standard deviation of the noise


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--widths", type=int, nargs="+", default=[128, 384, 768])
    parser.add_argument("--layers", type=int, default=2, help="of the encoder and of the decoder")
    parser.add_argument("--methods", nargs="+", default=METHODS, help="METHOD:OPTION=VALUE,...")
    parser.add_argument("--base_steps", type=int, default=200, help="all weights, old tempo")
    parser.add_argument("--steps", type=int, default=200, help="adapter, new tempo")
    parser.add_argument("--lr", type=float, default=1e-3, help="of the adapter")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def batches(domain: tuple[int, float], seed: int):
    """Yield mel (BATCH, 80, FRAMES) and tokens (BATCH, LENGTH + 1) without end."""
    frames, noise = domain
    spectra = torch.randn(SYMBOLS, BINS, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    while True:
        text = torch.randint(SYMBOLS, (BATCH, LENGTH), generator=generator)
        spoken = spectra[text].repeat_interleave(frames, dim=1)  # (BATCH, LENGTH * frames, 80)
        mel = F.pad(spoken, (0, 0, 0, FRAMES - spoken.shape[1]))
        mel = mel + noise * torch.randn(mel.shape, generator=generator)
        yield mel.mT.contiguous(), F.pad(text, (1, 0), value=START)


def cross_entropy(model: Whisper, mel: Tensor, tokens: Tensor) -> Tensor:
    """Return the loss per token, 0-dim."""
    logits = model(mel, tokens[:, :-1])  # (BATCH, LENGTH, SYMBOLS + 1)
    return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def train(model: Whisper, data, steps: int, lr: float, adapter: Adapter | None = None) -> None:
    """Train what requires a gradient: Adam, a warm-up of a tenth, then 1 / sqrt(step)."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=0.0)
    warmup = max(1, steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, (warmup / (step + 1)) ** 0.5)
    )
    model.train()
    for _ in range(steps):
        loss = cross_entropy(model, *next(data))
        if adapter is not None and adapter.bayesian:
            loss = loss + adapter.loss_terms()[0]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()


@torch.no_grad()
def held_out(model: Whisper, domain: tuple[int, float]) -> float:
    """Return the loss per token over 20 batches."""
    model.eval()
    data = batches(domain, seed=99)
    return sum(float(cross_entropy(model, *next(data))) for _ in range(20)) / 20


def base_of(width: int, args: argparse.Namespace) -> Whisper:
    """Return a Whisper that knows the old tempo."""
    torch.manual_seed(args.seed)
    sizes = (width, width // 64, args.layers)
    base = Whisper(ModelDimensions(BINS, FRAMES // 2, *sizes, SYMBOLS + 1, LENGTH, *sizes))
    torch.nn.init.normal_(base.decoder.positional_embedding, std=0.02)
    torch.nn.init.normal_(base.decoder.token_embedding.weight, std=0.02)
    train(base, batches(OLD, seed=1), args.base_steps, lr=0.128 / width)
    return base


def adapt(base: Whisper, words: str, args: argparse.Namespace) -> tuple[float, float]:
    """Return the loss on the new tempo after adapting, and the norm of the update."""
    method, _, options = words.partition(":")
    conf = yaml.safe_load("{" + options.replace("=", ": ") + "}")
    model = copy.deepcopy(base)
    adapter = espnet_blora.add_adapter(model, method, **{"target_modules": TARGETS, **conf})
    train(model, batches(NEW, seed=2), args.steps, args.lr, adapter)
    updates = [layer.delta_weight().detach().square().sum() for layer in adapter.layers.values()]
    return held_out(model, NEW), float(torch.stack(updates).sum().sqrt())


def main() -> None:
    args = get_parser().parse_args()
    torch.set_num_threads(1)
    print(
        f"torch {torch.__version__}, {platform.machine()}, 1 thread, {args.layers} + {args.layers} "
        f"layers, {args.base_steps} + {args.steps} steps of {BATCH} x {LENGTH} tokens\n\n"
        "| width | method | loss, new tempo | share of the fall | norm of the update | ratio |\n"
        "|---|---|---|---|---|---|"
    )
    for width in args.widths:
        base = base_of(width, args)
        start = held_out(base, NEW)
        print(f"| {width} | base (old tempo {held_out(base, OLD):.3f}) | {start:.3f} | | | |")
        first: tuple[float, float] | None = None
        for words in args.methods:
            loss, norm = adapt(base, words, args)
            first = first or (loss, norm)
            print(
                f"| {width} | `{words}` | {loss:.3f} | {(start - loss) / (start - first[0]):.2f} | "
                f"{norm:.3g} | {norm / first[1]:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
