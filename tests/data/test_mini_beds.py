"""The beds: far from mini_cs's base, and nothing of them seen before."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from espnet_blora.data import espeak, mini_cs
from espnet_blora.data.mini_beds import BEDS, narrow_words

PLANS = {name: mini_cs.plan(corpus=corpus) for name, corpus in BEDS.items()}
PLAN = PLANS["mini_noisy"]
NEW = ("train_noisy", "valid_noisy", "test_noisy")
OLD = ("old_30s", "old_2min", "old_10min", "old_fast")


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_retention_sets_are_large_and_nothing_was_seen_before(plan):
    assert len(plan["ret_en"]) == len(plan["ret_zh"]) == 1000
    ours = [u for utterances in plan.values() for u in utterances]
    theirs = [u for utterances in mini_cs.plan().values() for u in utterances]
    assert len({u.text for u in (*ours, *theirs)}) == len(ours) + len(theirs)
    assert len({u.id for u in ours}) == len(ours)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_old_audio_has_voices_of_its_own(plan):
    voices = {name: {u.speaker for u in utterances} for name, utterances in plan.items()}
    for name, other in itertools.product(OLD, plan):
        alike = name == other or ("old_fast" not in (name, other) and other in OLD)
        assert alike or not voices[name] & voices[other], (name, other)
    base = {u.speaker for u in mini_cs.plan(["base_train"])["base_train"]}
    assert not base & {voice for name in OLD for voice in voices[name]}
    for voice in sorted({voice for several in voices.values() for voice in several}):
        espeak.check_voice("cmn", voice)


def test_the_new_domain_is_narrow_fast_and_noisy():
    words = narrow_words()
    assert {len(several) for several in words.values()} == {45}
    for name, utterances in PLAN.items():
        new = name in NEW
        rates = [u.rate for u in utterances]
        low, high = (160, 230) if new else (210, 280) if name == "old_fast" else (130, 200)
        assert low <= min(rates) and max(rates) <= high
        assert {u.noise for u in utterances} == ({(5.0, 15.0)} if new else {(20.0, 40.0)})
        for u in utterances if new else ():
            assert 3 <= len(u.words) <= 5 and {language for language, _ in u.words} == {"en", "zh"}
            assert all(word in words[language] for language, word in u.words)


def test_the_voices_are_fast_high_and_of_nobody_else():
    plan = PLANS["mini_voices"]
    groups = [{u.speaker for u in plan[f"{name}_voices"]} for name in ("train", "valid", "test")]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 13
    base = {u.speaker for utterances in mini_cs.plan().values() for u in utterances}
    assert not set.union(*groups) & base
    for u in plan["train_voices"]:
        assert 240 <= u.rate <= 320 and 60 <= u.pitch < 100 and u.accent not in mini_cs.ACCENTS


def test_a_room_leaves_an_echo_and_the_microphone_clips():
    """The end of an utterance dies away slowly; the largest value is reached again and again."""
    utterance = PLANS["mini_room"]["valid_room"][0]
    wave = mini_cs.speak(utterance).astype(float)
    plain = mini_cs.speak(replace(utterance, echo=(0.0, 0.0), clipped=(0.0, 0.0))).astype(float)
    assert len(wave) > len(plain) + 0.45 * 16000
    assert 0.04 < np.mean(np.abs(wave) >= np.abs(wave).max() - 1) < 0.21
    assert np.mean(np.abs(plain) >= np.abs(plain).max() - 1) < 0.001
    assert np.array_equal(wave, mini_cs.speak(utterance))


def test_noise_is_as_loud_as_is_said():
    utterance = PLAN["valid_noisy"][0]
    wave = mini_cs.speak(utterance).astype(float) / 32768
    assert np.array_equal(mini_cs.speak(utterance), mini_cs.speak(utterance))
    quiet = np.sort([np.sqrt(np.mean(part**2)) for part in np.array_split(wave, 80)])[:4].mean()
    below = 20 * np.log10(np.sqrt(np.mean(wave**2)) / quiet)
    assert 4 < below < 17  # silence holds the noise alone
