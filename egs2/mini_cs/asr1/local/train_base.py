#!/usr/bin/env python3
r"""Train the tiny Whisper that mini_cs adapts, on monolingual English and Mandarin.

Architecture and tokenizer are Whisper's (multilingual, 51,865 tokens); only width and depth are
small. What makes it trainable in some hours on two cores, and is not left in the result: the
softmax runs over the tokens in use plus a fresh random sample of the others, and a CTC head on the
encoder, thrown away at the end, teaches the alignment early. Three cycles, each of which goes on
from the one before:

    python3 local/make_corpus.py DIR --sets base_train valid_en valid_zh valid_cs
    python3 local/train_base.py --corpus DIR --out base/first.safetensors
    python3 local/train_base.py --corpus DIR --out base/second.safetensors \
        --init base/first.safetensors --steps 2600 --lr 1e-3 --warmup 100 \
        --curriculum 0 --ctc-weight 0 --warp
    python3 local/train_base.py --corpus DIR --out base/third.safetensors \
        --init base/second.safetensors --steps 20000 --lr 1.2e-3 --warmup 100 --curriculum 0 \
        --warp --positions 0.41 --calm 300 --shift 0.6 --guide-weight 0.4 --windows 0.7 --whole 0.5

The first two read short utterances, padded to their batch. The third teaches Whisper's window of
30 s, joined utterances and silence (`base_windows.py`) without losing the words: the encoder's
sinusoids become quieter, so that a word sounds alike at every place; short batches are encoded at a
random place of the 30 s, so that every position is trained, and some without the quiet around the
speech, so that a text also ends where nothing follows; one head of the decoder's layers is
shown where the next token is said (`base_attention.py`); and windows hold more and more utterances.
Every evaluation says how each kind of window is read. The third cycle of the file that is shipped
ran in pieces: README.md, "The base model".
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import time
from pathlib import Path

import jiwer
import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from base_attention import guided_states
from base_windows import (
    FLOOR,
    MOST,
    SILENCE,
    WINDOW,
    Batch,
    Windows,
    cut_edges,
    noise_wave,
    quiet_edges,
    stacked,
)
from torch import Tensor, nn
from whisper.model import ModelDimensions, Whisper
from whisper.tokenizer import get_tokenizer

from espnet_blora.decoding.search import search
from espnet_blora.text.tokens import mixed_tokens
from espnet_blora.utils.keyed import read_keyed
from espnet_blora.whisper.checkpoint import load_whisper, save_whisper
from espnet_blora.whisper.decoder import forward
from espnet_blora.whisper.encoder import encode_features, log_mel

DIMS = ModelDimensions(
    n_mels=80,
    n_audio_ctx=1500,
    n_audio_state=128,
    n_audio_head=2,
    n_audio_layer=3,
    n_vocab=51865,
    n_text_ctx=448,
    n_text_state=128,
    n_text_head=2,
    n_text_layer=3,
)
log = logging.getLogger("train_base")


def get_parser() -> argparse.ArgumentParser:
    """Options, each with its default."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--corpus", type=Path, required=True, help="folder of Kaldi data directories"
    )
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--init", type=Path, help="go on from this checkpoint (a restart)")
    parser.add_argument("--steps", type=int, default=5400, help="updates")
    parser.add_argument("--lr", type=float, default=1.5e-3, help="peak learning rate")
    parser.add_argument("--warmup", type=int, default=500, help="warm-up updates")
    parser.add_argument("--batch-size", type=int, default=32, help="single utterances per update")
    parser.add_argument(
        "--ctc-weight", type=float, default=0.3, help="weight of the auxiliary CTC loss"
    )
    parser.add_argument(
        "--curriculum",
        type=int,
        default=1500,
        help="updates until the longest utterances take part; no augmentation until then",
    )
    parser.add_argument("--warp", action="store_true", help="stretch the mel axis at random")
    parser.add_argument(
        "--positions", type=float, default=1.0, help="what the encoder's sinusoids shrink to"
    )
    parser.add_argument("--calm", type=int, default=900, help="updates until they have shrunk")
    parser.add_argument(
        "--shift", type=float, default=0.0, help="share of updates encoded at a random place"
    )
    parser.add_argument(
        "--guide-weight", type=float, default=0.0, help="weight of attention to the right place"
    )
    parser.add_argument(
        "--windows", type=float, default=0.0, help="share of updates with windows, at the end"
    )
    parser.add_argument("--start", type=int, default=0, help="updates before the first windows")
    parser.add_argument(
        "--grow", type=int, default=2700, help=f"updates from 2 utterances in a window to {MOST}"
    )
    parser.add_argument(
        "--whole", type=float, default=0.4, help="share of those padded to 30 s, at the end"
    )
    parser.add_argument(
        "--window-frames", type=int, default=12000, help="mel frames of an update with windows"
    )
    parser.add_argument(
        "--others", type=int, default=1500, help="random unused tokens in the softmax"
    )
    parser.add_argument("--eval-every", type=int, default=1000, help="updates between evaluations")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="torch threads")
    parser.add_argument("--seed", type=int, default=1, help="of weights, order and sampling")
    return parser


class Set:
    """One data directory held in memory: features, frames, token ids, words."""

    def __init__(self, folder: Path, tokenizers: dict) -> None:
        text, language = read_keyed(folder / "text"), read_keyed(folder / "utt2lang")
        voice = read_keyed(folder / "utt2spk")
        self.ids, self.features, self.tokens, self.words, self.prompts = [], [], [], [], []
        self.languages, self.voices, self.tokenizers = [], [], tokenizers
        for uid, path in read_keyed(folder / "wav.scp").items():
            wave, rate = soundfile.read(path, dtype="float32")
            if rate != 16000:
                raise ValueError(
                    f"{uid}: {path} has {rate} Hz; 16000 is needed: make the corpus anew"
                )
            wave = torch.from_numpy(wave).unsqueeze(0)
            features, _ = log_mel(wave, torch.tensor([wave.shape[1]]), DIMS.n_mels)
            tokenizer = tokenizers[language[uid]]
            self.ids.append(uid)
            self.features.append(features[0].to(torch.float16))
            self.prompts.append(list(tokenizer.sot_sequence_including_notimestamps))
            self.tokens.append(tokenizer.encode(text[uid]))
            self.words.append(text[uid])
            self.languages.append(language[uid])
            self.voices.append(voice[uid])
        self.frames = torch.tensor([f.shape[1] for f in self.features])
        self.edges = [quiet_edges(f) for f in self.features]

    def __len__(self) -> int:
        return len(self.ids)

    def cut(self, row: int, rng: np.random.Generator) -> Tensor:
        """Return the features (n_mels, T) of an utterance, with less quiet around it or as much."""
        return cut_edges(self.features[row].float(), self.edges[row], rng)

    def batch(self, rows: list[int], rng: np.random.Generator | None = None) -> Batch:
        """Return single utterances; with `rng` some with less quiet around them."""
        features = [self.cut(row, rng) if rng else self.features[row].float() for row in rows]
        tokens = [self.tokens[row] for row in rows]
        spans = [[(0, f.shape[1], len(t))] for f, t in zip(features, tokens, strict=True)]
        return Batch(features, [self.prompts[row] for row in rows], tokens, spans)

    def pieces(self, rows: list[int]) -> list[list[int]]:
        """Return the tokens of utterances in one language, said one after the other."""
        language = self.languages[rows[0]]
        blanks = [""] + ["" if language == "zh" else " "] * (len(rows) - 1)
        return [
            self.tokenizers[language].encode(blank + self.words[row])
            for blank, row in zip(blanks, rows, strict=True)
        ]


def warp_bins(features: Tensor, rng: np.random.Generator) -> Tensor:
    """Other vocal tracts: each row's mel axis stretched by a factor of 0.88 to 1.12."""
    bins = features.shape[1]
    factors = torch.from_numpy(rng.uniform(0.88, 1.12, len(features))).float()
    places = (torch.arange(bins) * factors.unsqueeze(1)).clamp(max=bins - 1)  # (B, bins)
    low = places.floor().long().clamp(max=bins - 2)
    part = (places - low).unsqueeze(2)
    low = low.unsqueeze(2).expand_as(features)
    return features.gather(1, low) * (1 - part) + features.gather(1, low + 1) * part


def mask_features(features: Tensor, frames: Tensor, rng: np.random.Generator) -> None:
    """SpecAugment in place: two stripes of < 12 bins and two of < 12 frames a row."""
    for row, n in enumerate(frames.tolist()):
        for _ in range(2):
            width = int(rng.integers(0, 12))
            start = int(rng.integers(0, features.shape[1] - width))
            features[row, start : start + width] = 0.0
            width = int(rng.integers(0, min(12, n)))
            start = int(rng.integers(0, n - width))
            features[row, :, start : start + width] = 0.0


def initialise(model: Whisper) -> None:
    """Initial weights: normal(0, 0.02) embeddings, residual outputs scaled by depth."""
    nn.init.normal_(model.decoder.token_embedding.weight, std=0.02)
    nn.init.normal_(model.decoder.positional_embedding, std=0.02)
    for conv, gain in ((model.encoder.conv1, 2.0), (model.encoder.conv2, 8.0)):
        conv.weight.data.mul_(gain)  # else the positions (rms 0.7) drown what is heard
    for stack, per_block in ((model.encoder, 2), (model.decoder, 3)):
        for block in stack.blocks:
            for linear in [block.attn.out, block.mlp[2]] + (
                [block.cross_attn.out] if block.cross_attn is not None else []
            ):
                linear.weight.data.div_(math.sqrt(per_block * len(stack.blocks)))


@torch.no_grad()
def decode(
    model: Whisper, windows: list[Tensor], prompts: list[list[int]], tokenizer, size: int = 50
) -> list[str]:
    """Recognise features (n_mels, T_i) each, greedily."""
    model.eval()
    texts = []
    for i in range(0, len(windows), size):
        memory, lengths = encode_features(model.encoder, *stacked(windows[i : i + size]))
        best = search(model.decoder, memory, lengths, prompts[i : i + size], tokenizer.eot)
        texts += [tokenizer.decode(hypotheses[0].ids) for hypotheses in best]
    model.train()
    return texts


def error_rate(references: list[str], hypotheses: list[str]) -> float:
    """MER in per cent: Han characters and other words as tokens."""
    sides = [[" ".join(mixed_tokens(text)) for text in side] for side in (references, hypotheses)]
    return round(100 * jiwer.wer(*sides), 2)


def figures_of(model: Whisper, name: str, data: Set, tokenizer) -> dict[str, float]:
    """Error rates of a set: padded to the batch, so without quiet edges, at 30 s, and joined."""
    features = [f.float() for f in data.features]
    figures = {name: error_rate(data.words, decode(model, features, data.prompts, tokenizer))}
    bare = [
        f[:, before : f.shape[1] - after]
        for f, (before, after) in zip(features, data.edges, strict=True)
    ]
    texts = decode(model, bare, data.prompts, tokenizer)
    figures[f"{name}_cut"] = error_rate(data.words, texts)
    if name == "valid_cs":
        return figures
    windows = [Windows.padded(f, WINDOW) for f in features]
    texts = decode(model, windows, data.prompts, tokenizer, 10)
    figures[f"{name}_30s"] = error_rate(data.words, texts)
    groups: dict[str, list[list[int]]] = {}
    for row, voice in enumerate(data.voices):  # 2 to 8 of one voice, 0.5 s between
        runs = groups.setdefault(voice, [[]])
        if len(runs[-1]) == 2 + 3 * (len(runs) % 3):
            runs.append([])
        runs[-1].append(row)
    joined = [run for runs in groups.values() for run in runs if run]
    windows = []
    for rows in joined:
        pieces = []
        for row in rows:
            pieces += [features[row], torch.full((DIMS.n_mels, 50), -torch.inf)]
        window = torch.cat(pieces, dim=1)[:, :WINDOW]
        windows.append(Windows.padded(torch.maximum(window, window.amax() - FLOOR), WINDOW))
    texts = decode(model, windows, [data.prompts[rows[0]] for rows in joined], tokenizer, 10)
    spoken = [" ".join(data.words[row] for row in rows) for rows in joined]
    figures[f"{name}_joined"] = error_rate(spoken, texts)
    return figures


@torch.no_grad()
def heard_in_silence(model: Whisper, data: Set, tokenizer, clips: int = 40) -> float:
    """Per cent of clips without speech, padded or not, in which the model hears some.

    It hears none where the end is the first token of the text, or where `<|nospeech|>` has more
    than openai-whisper's threshold of 0.6.
    """
    model.eval()
    rng, heard = np.random.default_rng(0), 0
    windows = [torch.full((DIMS.n_mels, WINDOW), SILENCE)]
    for _ in range(clips):
        wave = torch.from_numpy(noise_wave(rng, rng.uniform(1, 30))).unsqueeze(0)
        features, _ = log_mel(wave, torch.tensor([wave.shape[1]]), DIMS.n_mels)
        windows += [features[0], Windows.padded(features[0], WINDOW)]
    prompt = torch.tensor([data.prompts[0]])
    for window in windows:
        memory, lengths = encode_features(model.encoder, *stacked([window]))
        shares = forward(model.decoder, prompt, memory, lengths)[0].softmax(-1)  # (L, n_vocab)
        quiet = shares[0, tokenizer.no_speech] > 0.6 or int(shares[-1].argmax()) == tokenizer.eot
        heard += not quiet
    model.train()
    return round(100 * heard / len(windows), 2)


@torch.no_grad()
def wrong_language(model: Whisper, data: Set, tokenizer) -> float:
    """Per cent of utterances whose language is not the likeliest after the first token."""
    model.eval()
    wrong, codes = 0, list(tokenizer.all_language_tokens)
    for i in range(0, len(data), 50):
        memory, lengths = encode_features(
            model.encoder, *data.batch(list(range(i, min(i + 50, len(data))))).stacked()
        )
        prompts = torch.tensor(data.prompts[i : i + 50])
        logits = forward(model.decoder, prompts[:, :1], memory, lengths)[:, 0, codes]
        wrong += int((torch.tensor(codes)[logits.argmax(-1)] != prompts[:, 1]).sum())
    model.train()
    return round(100 * wrong / len(data), 2)


def evaluate(model: Whisper, evals: dict[str, Set], tokenizer) -> dict[str, float]:
    """All figures of the validation sets, in per cent."""
    figures = {}
    for name, data in evals.items():
        figures |= figures_of(model, name, data, tokenizer)
        if name != "valid_cs":
            figures[f"{name}_language"] = wrong_language(model, data, tokenizer)
    figures["heard_in_silence"] = heard_in_silence(model, next(iter(evals.values())), tokenizer)
    return figures


def bucketed(frames: Tensor, size: int, rng: np.random.Generator) -> list[list[int]]:
    """Batches of similar length in random order; every utterance once."""
    order = np.argsort(frames.numpy() + rng.uniform(0, 40, len(frames)))
    batches = [order[i : i + size].tolist() for i in range(0, len(order), size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def learning_rate(step: int, args: argparse.Namespace) -> float:
    """Share of the peak: linear warm-up, then half a cosine down to 0.02."""
    if step < args.warmup:
        return (step + 1) / args.warmup
    share = (step - args.warmup) / max(1, args.steps - args.warmup)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share))


def main(argv: list[str] | None = None) -> None:
    """Train, evaluate on unseen voices, write the checkpoint with its figures."""
    args = get_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(args.threads)
    rng = np.random.default_rng(args.seed)
    tokenizers = {c: get_tokenizer(True, language=c, task="transcribe") for c in ("en", "zh")}
    tokenizer = tokenizers["en"]
    train = Set(args.corpus / "base_train", tokenizers)
    evals = {
        name: Set(args.corpus / name, tokenizers)
        for name in ("valid_en", "valid_zh", "valid_cs")
        if (args.corpus / name).is_dir()
    }
    starts = {prompt[1] for prompt in train.prompts} | {tokenizer.no_speech}
    used = sorted({t for row in train.tokens for t in row} | starts | {tokenizer.eot})
    index = torch.full((DIMS.n_vocab,), -1, dtype=torch.long)
    index[used] = torch.arange(len(used))
    unused = np.setdiff1d(np.arange(DIMS.n_vocab), used)
    log.info("%d utterances, %d tokens in use", len(train), len(used))
    windows = Windows(train, DIMS.n_mels, args.seed)

    torch.manual_seed(args.seed)
    model = load_whisper(args.init) if args.init else Whisper(DIMS)
    if not args.init:
        initialise(model)
    ctc = nn.Linear(DIMS.n_audio_state, len(used) + 1)
    parameters = [*model.parameters(), *ctc.parameters()]
    decay = [p for p in parameters if p.dim() > 1]
    plain = [p for p in parameters if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}],
        lr=args.lr, betas=(0.9, 0.98), foreach=True,
    )  # fmt: skip
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: learning_rate(s, args))

    batches: list[list[int]] = []
    sinusoids = model.encoder.positional_embedding.clone()
    began, sums = time.time(), np.zeros(3)
    for step in range(1, args.steps + 1):
        # what this update hears
        grown = min(1.0, max(0.0, (step - args.start) / max(1, args.grow)))
        if step > args.start and rng.random() < args.windows * min(1.0, 0.4 + 0.6 * grown):
            windows.most, windows.whole = 2 + int((MOST - 2) * grown), args.whole * grown
            batch = windows.batch(args.window_frames, rng)
        else:
            if not batches:
                share = 0.25 + 0.75 * step / max(1, args.curriculum)  # short utterances first
                limit = train.frames.float().quantile(min(1.0, share))
                pool = torch.nonzero(train.frames <= limit).flatten()
                sizes = bucketed(train.frames[pool], args.batch_size, rng)
                batches = [pool[rows].tolist() for rows in sizes]
            batch = train.batch(batches.pop(), rng)
        features, frames = batch.stacked()
        if step > args.curriculum:
            if args.warp:
                features = warp_bins(features, rng)
            mask_features(features, frames, rng)

        # the encoder, at a random place of its 30 s
        calmed = min(1.0, step / max(1, args.calm))
        positions = sinusoids * (1 - (1 - args.positions) * calmed)
        room = int((WINDOW - features.shape[2]) // 2 * calmed)
        offset = int(rng.integers(room + 1)) if rng.random() < args.shift else 0
        model.encoder.positional_embedding = positions[offset:]
        memory, lengths = encode_features(model.encoder, features, frames)
        model.encoder.positional_embedding = positions

        # the decoder: the language or "no speech" after the first token, as Whisper was trained,
        # and the text after the prompt; these words and the end of an empty text count for five
        texts, prompt = batch.texts, len(batch.prompts[0])
        longest = max(len(text) for text in texts)
        inputs = torch.full((len(texts), prompt + longest), tokenizer.eot)  # (B, L)
        targets = torch.full((len(texts), prompt + longest), -100)
        weights = torch.ones(len(texts), prompt + longest)
        for i, text in enumerate(texts):
            inputs[i, : prompt + len(text)] = torch.tensor(batch.prompts[i] + text)
            targets[i, 0] = index[batch.prompts[i][1] if text else tokenizer.no_speech]
            targets[i, prompt - 1 : prompt + len(text)] = index[
                torch.tensor([*text, tokenizer.eot])
            ]
            weights[i, : 1 if text else prompt] = 5.0
        hidden, missed = guided_states(model.decoder, inputs, memory, lengths, batch.spans, prompt)
        sample = torch.from_numpy(
            np.concatenate([used, rng.choice(unused, args.others, replace=False)])
        )
        logits = hidden @ model.decoder.token_embedding.weight[sample].T
        losses = F.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), label_smoothing=0.05, reduction="none"
        )
        weights *= targets >= 0
        loss = (losses * weights.flatten()).sum() / weights.sum()
        # a new head would shake a trained encoder
        heard = memory.detach() if args.init and step < 100 else memory
        auxiliary = F.ctc_loss(
            ctc(heard).log_softmax(-1).transpose(0, 1),
            index[torch.tensor([t for text in texts for t in text], dtype=torch.long)] + 1,
            lengths,
            torch.tensor([len(t) for t in texts]),
            zero_infinity=True,
        )
        (loss + args.ctc_weight * auxiliary + args.guide_weight * missed).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        sums += (loss.item(), auxiliary.item(), missed.item())
        if step % 100 == 0:
            rate = (time.time() - began) / step
            log.info(
                "step %d of %d, loss %.3f, ctc %.3f, missed %.3f, %.2f s per step, %.0f min to go",
                step, args.steps, *(sums / 100), rate, rate * (args.steps - step) / 60,
            )  # fmt: skip
            sums[:] = 0
        if step % args.eval_every == 0 or step == args.steps:
            figures = evaluate(model, evals, tokenizer)
            log.info("step %d: MER in per cent %s", step, figures)
            notes = {
                "made_by": "egs2/mini_cs/asr1/local/train_base.py",
                "options": json.dumps(
                    {k: v for k, v in vars(args).items() if isinstance(v, int | float)}
                ),
                "step": str(step),
                "mer_percent": json.dumps(figures),
            }
            args.out.parent.mkdir(parents=True, exist_ok=True)
            save_whisper(model, args.out, notes=notes)
    stored = load_whisper(args.out)
    log.info("stored model: %s", evaluate(stored, evals, tokenizer))


if __name__ == "__main__":
    main()
