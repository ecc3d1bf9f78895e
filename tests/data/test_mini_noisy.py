"""The corpus mini_noisy: far from mini_cs's base, and nothing of it seen before."""

import itertools

import numpy as np

from espnet_blora.data import espeak, mini_cs
from espnet_blora.data.mini_noisy import MINI_NOISY, narrow_words

PLAN = mini_cs.plan(corpus=MINI_NOISY)
NEW = ("train_noisy", "valid_noisy", "test_noisy")
OLD = ("old_30s", "old_2min", "old_10min", "old_fast")


def test_retention_sets_are_large_and_nothing_was_seen_before():
    assert len(PLAN["ret_en"]) == len(PLAN["ret_zh"]) == 1000
    ours = [u for utterances in PLAN.values() for u in utterances]
    theirs = [u for utterances in mini_cs.plan().values() for u in utterances]
    assert len({u.text for u in (*ours, *theirs)}) == len(ours) + len(theirs)
    assert len({u.id for u in ours}) == len(ours)


def test_old_audio_has_voices_of_its_own():
    voices = {name: {u.speaker for u in utterances} for name, utterances in PLAN.items()}
    for name, other in itertools.product(OLD, PLAN):
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


def test_noise_is_as_loud_as_is_said():
    utterance = PLAN["valid_noisy"][0]
    wave = mini_cs.speak(utterance).astype(float) / 32768
    assert np.array_equal(mini_cs.speak(utterance), mini_cs.speak(utterance))
    quiet = np.sort([np.sqrt(np.mean(part**2)) for part in np.array_split(wave, 80)])[:4].mean()
    below = 20 * np.log10(np.sqrt(np.mean(wave**2)) / quiet)
    assert 4 < below < 17  # silence holds the noise alone
