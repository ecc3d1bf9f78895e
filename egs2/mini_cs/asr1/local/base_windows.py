"""Windows of up to 30 s for the base's training: padded and joined utterances, silence and noise.

Everything is composed of log-mel features, (x + 4) / 4 with x = log10 of the mel power floored at
(the window's maximum - 8). So digital silence beside speech stands at the window's peak - 2, and
features of several utterances may be laid side by side once they share that floor.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from espnet_blora.whisper.encoder import log_mel

WINDOW = 3000
"""Mel frames of Whisper's window of 30 s."""

FLOOR = 2.0
"""Digital silence lies this far below the window's peak, in feature units (8 / 4)."""

SILENCE = (np.log10(1e-10) + 4) / 4
"""A window of digital silence alone: its floor is that of the logarithm."""

LONGEST = 2800
"""Frames of joined utterances at most: 28 s, as in Whisper's own training."""

JOINED, PADDED = 0.55, 0.3
"""Shares of the rows of a batch: joined utterances, one padded utterance; the rest is no speech."""


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


class Windows:
    """Batches of windows: rows of joined utterances, of one padded utterance, or of no speech.

    Attributes:
        data: The utterances: `features` (n_mels, T) each, `tokens`, `languages`, `voices`.
        mels: Mel channels.
    """

    def __init__(self, data, mels: int, seed: int, clips: int = 300):
        self.data, self.mels = data, mels
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

    def batch(
        self, size: int, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, list[list[int]], list[list[int]]]:
        """Draw a batch.

        Returns:
            features (B, n_mels, T), frames (B,), and per row its prompt and its text's tokens.
        """
        windows, prompts, texts = [], [], []
        for share in rng.random(size):
            if share < JOINED + PADDED:
                rows = self._rows(rng) if share < JOINED else [int(rng.integers(len(self.data)))]
                window = self._speech(rows, rng)
                texts.append(self.data.joined(rows))
            else:
                rows = [int(rng.integers(len(self.data)))]  # for its language alone
                window = self._no_speech(rng)
                texts.append([])
            windows.append(window)
            prompts.append(self.data.prompts[rows[0]])
        if rng.random() < 0.5:  # Whisper's own window for all; else each as long as it is
            windows = [self.padded(window, WINDOW, rng) for window in windows]
        frames = torch.tensor([window.shape[1] for window in windows])
        out = torch.zeros(size, self.mels, int(frames.max()))
        for i, window in enumerate(windows):
            out[i, :, : window.shape[1]] = window
        return out, frames, prompts, texts

    def _rows(self, rng: np.random.Generator) -> list[int]:
        """Draw 2 to 8 utterances of one voice in one language, 28 s with pauses at most."""
        alike = self._alike[rng.choice(len(self._alike), p=self._shares)]
        rows, frames = [], 0
        for row in rng.choice(alike, int(rng.integers(2, 9))):
            frames += int(self.data.frames[row]) + 150
            if rows and frames > LONGEST:
                break
            rows.append(int(row))
        return rows

    def _speech(self, rows: list[int], rng: np.random.Generator) -> Tensor:
        """Lay utterances side by side, pauses of 0.05 to 1.5 s between, before and after them."""
        pieces = []
        for row in rows:
            speech = self.data.features[row].float()
            pause = int(rng.integers(5, 150)) if pieces or rng.random() < 0.5 else 0
            pieces += [self._pause(speech, pause, rng), speech]
        end = int(rng.integers(0, 150)) if rng.random() < 0.7 else int(rng.integers(0, WINDOW))
        end = min(end, WINDOW - sum(piece.shape[1] for piece in pieces))
        pieces.append(self._pause(speech, end, rng))
        window = torch.cat(pieces, dim=1)
        return torch.maximum(window, window.amax() - FLOOR)

    @staticmethod
    def _pause(speech: Tensor, frames: int, rng: np.random.Generator) -> Tensor:
        """Return silence beside an utterance: digital, or made of its own quietest frames."""
        if rng.random() < 0.5:
            return torch.full((speech.shape[0], frames), float(speech.amax()) - FLOOR)
        quiet = speech.mean(dim=0).argsort()[: max(4, speech.shape[1] // 12)].numpy()
        return speech[:, torch.from_numpy(rng.choice(quiet, frames))]

    def _no_speech(self, rng: np.random.Generator) -> Tensor:
        if rng.random() < 0.25:
            return torch.full((self.mels, int(rng.integers(100, WINDOW))), SILENCE)
        return self._noises[int(rng.integers(len(self._noises)))]

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
