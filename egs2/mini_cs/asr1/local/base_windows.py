"""Windows of up to 30 s for the base's training: padded and joined utterances, silence and noise.

Everything is composed of log-mel features, (x + 4) / 4 with x = log10 of the mel power floored at
(the window's maximum - 8). So digital silence beside speech stands at the window's peak - 2, and
features of several utterances may be laid side by side once they share that floor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from base_attention import Span
from torch import Tensor

from espnet_blora.decoding.silence import quiet_positions
from espnet_blora.whisper.encoder import log_mel

WINDOW = 3000
"""Mel frames of Whisper's window of 30 s."""

FLOOR = 2.0
"""Digital silence lies this far below the window's peak, in feature units (8 / 4)."""

SILENCE = (np.log10(1e-10) + 4) / 4
"""A window of digital silence alone: its floor is that of the logarithm."""

LONGEST = 2800
"""Frames of joined utterances at most: 28 s, as in Whisper's own training."""

MOST = 8
"""Utterances of a window at most."""

LARGEST = 0.5
"""Share of batches of as many utterances as may be: else the last positions are seldom trained."""

FULL, SPEECH = 0.7, 0.9
"""Shares of rows: as many utterances as the batch asks for, any speech; the rest is no speech."""


def noise_wave(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Return sound without speech: (samples,) float32 at 16 kHz.

    White or low-passed noise, hum of the mains with harmonics, or a tone; at any level from barely
    there to loud.
    """
    samples = int(16000 * seconds)
    time = np.arange(samples) / 16000
    kind = rng.integers(4)
    if kind == 0:
        wave = rng.standard_normal(samples)
    elif kind == 1:  # low-passed: a running mean over up to 4 ms
        width = int(rng.integers(2, 64))
        wave = np.convolve(rng.standard_normal(samples + width), np.ones(width), "valid")[:samples]
    elif kind == 2:
        hertz = rng.choice([50.0, 60.0])
        wave = sum(
            rng.uniform(0, 1) * np.sin(2 * np.pi * k * hertz * time + rng.uniform(0, 6.3))
            for k in range(1, 9)
        )
    else:
        wave = np.sin(2 * np.pi * rng.uniform(80, 4000) * time)
    level = 10 ** rng.uniform(-4, -0.3)
    wave = wave / max(float(np.abs(wave).max()), 1e-9) * level
    if rng.random() < 0.5:  # a room is never quite quiet beside a hum
        wave = wave + 10 ** rng.uniform(-5, -2) * rng.standard_normal(samples)
    return wave.astype(np.float32)


@dataclass
class Batch:
    """What one update hears.

    Attributes:
        features: Per row (n_mels, T_i).
        prompts: Per row the tokens before the text.
        texts: Per row the tokens of the text; none where nobody speaks.
        spans: Per row its utterances: first frame, frame after the last, number of tokens.
    """

    features: list[Tensor] = field(default_factory=list)
    prompts: list[list[int]] = field(default_factory=list)
    texts: list[list[int]] = field(default_factory=list)
    spans: list[list[Span]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.features)

    def stacked(self) -> tuple[Tensor, Tensor]:
        """Return features (B, n_mels, T) zero-padded, and frames (B,)."""
        return stacked(self.features)


def quiet_edges(features: Tensor) -> tuple[int, int]:
    """Return how many frames are quiet before and after the speech."""
    loudness = 10 * (4 * features - 4).double().mul(math.log(10)).logsumexp(0) / math.log(10)
    speech = np.flatnonzero(~quiet_positions(loudness.numpy()))
    return int(speech[0]), features.shape[1] - 1 - int(speech[-1])


def cut_edges(features: Tensor, edges: tuple[int, int], rng: np.random.Generator) -> Tensor:
    """Return an utterance with less quiet around it: all, some or none of each edge is cut off."""
    before, after = (
        int(rng.choice([0, edge, rng.integers(edge + 1)], p=[0.4, 0.3, 0.3])) for edge in edges
    )
    return features[:, before : features.shape[1] - after]


def stacked(features: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return features (B, n_mels, T) zero-padded, and frames (B,), of (n_mels, T_i) each."""
    frames = torch.tensor([f.shape[1] for f in features])
    out = torch.zeros(len(features), features[0].shape[0], int(frames.max()))  # (B, n_mels, T)
    for i, f in enumerate(features):
        out[i, :, : f.shape[1]] = f
    return out, frames


class Windows:
    """Batches of windows: rows of one or more utterances of one voice, or of no speech.

    Attributes:
        data: The utterances: `features` (n_mels, T) each, `frames`, `tokens`, `prompts`,
            `languages`, `voices`; `cut(row, rng)`, the features with less quiet around them; and
            `pieces(rows)`, the tokens of utterances in one text.
        mels: Mel channels.
        most: Utterances of a window at most; the training raises it from 2 to `MOST`.
        whole: Share of batches in which every row has Whisper's 30 s.
    """

    def __init__(self, data, mels: int, seed: int, clips: int = 300):
        self.data, self.mels = data, mels
        self.most, self.whole = MOST, 0.5
        rng = np.random.default_rng(seed)
        self._noises = []
        for _ in range(clips):
            wave = torch.from_numpy(noise_wave(rng, rng.uniform(2, 30))).unsqueeze(0)
            features, _ = log_mel(wave, torch.tensor([wave.shape[1]]), mels)
            self._noises.append(features[0])
        rows: dict[tuple[str, str], list[int]] = {}
        for row, key in enumerate(zip(data.voices, data.languages, strict=True)):
            rows.setdefault(key, []).append(row)
        self._alike = list(rows.values())
        self._shares = np.array([len(rows) for rows in self._alike]) / len(data)

    @property
    def longest(self) -> int:
        """Frames of joined utterances at most: grows with their number."""
        return min(LONGEST, 500 + 350 * (self.most - 1))

    def batch(self, frames: int, rng: np.random.Generator) -> Batch:
        """Draw as many rows of about the same number of utterances as fit into `frames`."""
        batch = Batch()
        whole = rng.random() < self.whole
        count = self.most if rng.random() < LARGEST else int(rng.integers(1, self.most + 1))
        longest = WINDOW if whole else 0
        while True:
            share = rng.random()
            if share < SPEECH:
                rows = self._rows(count if share < FULL else int(rng.integers(1, count + 1)), rng)
                window, places = self._speech(rows, rng)
                pieces = self.data.pieces(rows)
            else:
                rows = [int(rng.integers(len(self.data)))]  # for its language alone
                window, places, pieces = self._no_speech(rng), [], []
            longest = max(longest, window.shape[1])
            if batch.features and longest * (len(batch) + 1) > frames:
                break
            batch.features.append(window)
            batch.prompts.append(self.data.prompts[rows[0]])
            batch.texts.append([token for piece in pieces for token in piece])
            batch.spans.append([(*p, len(t)) for p, t in zip(places, pieces, strict=True)])
        if whole:
            batch.features = [self.padded(window, WINDOW, rng) for window in batch.features]
        return batch

    def _rows(self, count: int, rng: np.random.Generator) -> list[int]:
        """Draw `count` utterances of one voice in one language, or as many as fit."""
        alike = self._alike[rng.choice(len(self._alike), p=self._shares)]
        rows, frames = [], 0
        for row in rng.choice(alike, count):
            frames += int(self.data.frames[row]) + 25
            if rows and frames > self.longest:
                break
            rows.append(int(row))
        return rows

    def _speech(
        self, rows: list[int], rng: np.random.Generator
    ) -> tuple[Tensor, list[tuple[int, int]]]:
        """Lay utterances side by side, pauses of 0.05 to 1.2 s between, before and after them.

        Returns:
            The window (n_mels, T), and per utterance its first frame and the frame after it.
        """
        pieces, places, at = [], [], 0
        spare = WINDOW - int(self.data.frames[rows].sum())
        for row in rows:
            speech = self.data.cut(row, rng)
            pause = int(rng.integers(5, 120)) if pieces or rng.random() < 0.5 else 0
            pause = min(pause, spare)
            spare -= pause
            pieces += [self._pause(speech, pause, rng), speech]
            at += pause + speech.shape[1]
            places.append((at - speech.shape[1], at))
        # the end: short, or anywhere in the window
        end = int(rng.integers(0, 150)) if rng.random() < 0.7 else int(rng.integers(0, WINDOW))
        room = WINDOW if self.longest == LONGEST else self.longest + 150
        pieces.append(self._pause(speech, max(0, min(end, room - at)), rng))
        window = torch.cat(pieces, dim=1)
        return torch.maximum(window, window.amax() - FLOOR), places

    @staticmethod
    def _pause(speech: Tensor, frames: int, rng: np.random.Generator) -> Tensor:
        """Return silence beside an utterance: digital, or made of its own quietest frames."""
        if rng.random() < 0.5:
            return torch.full((speech.shape[0], frames), float(speech.amax()) - FLOOR)
        quiet = speech.mean(dim=0).argsort()[: max(4, speech.shape[1] // 12)].numpy()
        return speech[:, torch.from_numpy(rng.choice(quiet, frames))]

    def _no_speech(self, rng: np.random.Generator) -> Tensor:
        if rng.random() < 0.25:
            return torch.full((self.mels, int(rng.integers(100, self.longest))), SILENCE)
        return self._noises[int(rng.integers(len(self._noises)))][:, : self.longest]

    @staticmethod
    def padded(window: Tensor, frames: int, rng: np.random.Generator | None = None) -> Tensor:
        """Pad a window to `frames`: by digital silence, in a quarter of draws by zeros.

        openai-whisper and Hugging Face pad the wave with silence, faster-whisper the features with
        zeros. Without `rng` it is silence.
        """
        value = max(float(window.amax()) - FLOOR, SILENCE)
        if rng is not None and rng.random() < 0.25:
            value = 0.0
        out = torch.full((window.shape[0], frames), value)
        out[:, : window.shape[1]] = window
        return out
