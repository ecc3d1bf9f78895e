"""Windows for training mini_cs's base: composed of features, they are those of a composed wave."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from espnet_blora.whisper.encoder import log_mel

RECIPE = Path(__file__).resolve().parents[2] / "egs2" / "mini_cs" / "asr1"
MELS, RATE = 80, 16000


@pytest.fixture
def windows(monkeypatch):
    spec = importlib.util.spec_from_file_location(
        "base_windows", RECIPE / "local" / "base_windows.py"
    )
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "base_windows", module)
    spec.loader.exec_module(module)
    return module


def wave(seconds, level, seed):
    time = np.arange(int(seconds * RATE)) / RATE
    rng = np.random.default_rng(seed)
    tone = np.sin(2 * np.pi * rng.uniform(200, 900) * time)
    return (level * tone + 1e-3 * rng.standard_normal(len(time))).astype(np.float32)


def features_of(samples, pad_to="batch"):
    features, _ = log_mel(
        torch.from_numpy(samples)[None], torch.tensor([len(samples)]), MELS, pad_to
    )
    return features[0]  # (n_mels, T)


def test_padding_is_that_of_a_padded_wave(windows):
    samples = wave(2.0, 0.3, 0)
    padded = windows.Windows.padded(features_of(samples), windows.WINDOW)
    whole = features_of(samples, "30s")
    assert padded.shape == whole.shape == (MELS, 3000)
    edge = [*range(200), *range(202, 3000)]  # two frames reach over the end of the wave
    assert torch.allclose(padded[:, edge], whole[:, edge], atol=1e-5)
    silence = features_of(np.zeros(RATE, np.float32), "30s")
    assert torch.allclose(silence, torch.full_like(silence, windows.SILENCE), atol=1e-5)


def utterances(n=24):
    """What the windows need of a set: two voices, two languages, tokens that say whose they are."""
    features = [features_of(wave(1.0 + (i % 5) / 2, 0.1 + i / 50, i)) for i in range(n)]
    return SimpleNamespace(
        features=features,
        frames=torch.tensor([f.shape[1] for f in features]),
        languages=["en" if i % 2 else "zh" for i in range(n)],
        voices=["a" if i % 4 < 2 else "b" for i in range(n)],
        prompts=[[1 + i % 2] for i in range(n)],
        joined=list,
    )


class Utterances(SimpleNamespace):
    def __len__(self):
        return len(self.features)


def test_joined_utterances_are_those_of_the_joined_wave(windows, monkeypatch):
    """One pause of digital silence, seen away from the frames that reach over an edge."""
    loud, soft = wave(1.0, 0.5, 1), wave(1.0, 0.01, 2)
    data = Utterances(**vars(utterances()))
    data.features[:2] = [features_of(loud), features_of(soft)]
    one = windows.Windows(data, MELS, seed=0, clips=2)
    monkeypatch.setattr(
        one, "_pause", lambda speech, frames, rng: torch.full((MELS, 30), -torch.inf)
    )
    window = one._speech([0, 1], np.random.default_rng(0))  # 30 + 100 + 30 + 100 + 30 frames
    gap = np.zeros(30 * 160, np.float32)
    whole = features_of(np.concatenate([gap, loud, gap, soft, gap]))
    inside = [*range(35, 125), *range(165, 255)]
    assert torch.allclose(window[:, inside], whole[:, inside], atol=2e-3)
    assert torch.allclose(window[:, 140:150], whole[:, 140:150], atol=1e-5)


def test_a_batch_holds_what_it_says(windows):
    data = Utterances(**vars(utterances()))
    one, rng = windows.Windows(data, MELS, seed=0, clips=4), np.random.default_rng(3)
    kinds, lengths = set(), set()
    for _ in range(20):
        features, frames, prompts, texts = one.batch(6, rng)
        assert features.shape == (6, MELS, int(frames.max())) and int(frames.max()) <= 3000
        assert bool(torch.isfinite(features).all())
        lengths.add(bool((frames == 3000).all()))
        for prompt, rows in zip(prompts, texts, strict=True):
            kinds.add(min(len(rows), 2))
            assert len(rows) <= 8
            # joined utterances are of one voice in one language, which the prompt names
            assert len({(data.voices[row], data.languages[row]) for row in rows}) <= 1
            assert not rows or data.prompts[rows[0]] == prompt
    assert kinds == {0, 1, 2} and lengths == {True, False}


def test_noise_has_every_length_and_no_clipping(windows):
    rng = np.random.default_rng(0)
    for seconds in (0.5, 3.0, 30.0):
        clips = [windows.noise_wave(rng, seconds) for _ in range(12)]
        assert {len(clip) for clip in clips} == {int(seconds * RATE)}
        assert max(float(np.abs(clip).max()) for clip in clips) < 1.0
