"""The corpus mini_cs: English, Mandarin and code-switched sentences spoken by espeak-ng.

The *base domain* is monolingual: random sequences of everyday words in English or in Mandarin. The
*new domain* is sentences over the same words that switch between the two languages, spoken by
other voices. Every evaluation set has voices of its own, and no sentence occurs in two sets. The
same call writes the same bytes.

Text is written as Whisper writes it: English words separated by blanks, Han characters unspaced,
and a blank before an English stretch (`我们 want咖啡`), never before Han. There it would be a
token of its own, which the monolingual base has never met and which adapters cannot teach it, as
the token embeddings are frozen.
"""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import soxr

from espnet_blora.data import audio, espeak, kaldi

log = logging.getLogger(__name__)

SEED = 20261
SAMPLE_RATE = audio.SAMPLE_RATE
LEVEL_DB = -23.0  # RMS of the speech below full scale

_ENGLISH = """
apple bread coffee dinner water chicken sugar orange kitchen table window garden school teacher
student doctor mother father sister brother friend children people morning evening today tomorrow
yesterday summer winter weather river mountain station airport ticket train bicycle
driver market money number letter paper pencil picture music movie story question answer problem
language english chinese computer telephone internet message office company manager meeting project
happy angry hungry tired beautiful expensive little important different quickly slowly always never
maybe together because before after want like need drink buy open close find give help
remember understand listen travel visit finish begin wash carry black yellow green
seven eleven twenty hundred minute husband baby finger shoulder animal monkey tiger rabbit
"""
_MANDARIN = """
我们 你们 他们 老师 学生 医生 朋友 孩子 妈妈 爸爸 哥哥 妹妹 今天 明天 昨天 早上 晚上 中午 星期 时间
咖啡 面包 苹果 米饭 牛奶 蔬菜 水果 厨房 桌子 椅子 花园 学校 教室 医院 商店 超市 火车 飞机 公园 城市
北京 上海 中国 美国 天气 下雨 春天 夏天 秋天 冬天 高山 河流 太阳 月亮 喜欢 想要 需要 知道 觉得 学习
工作 休息 睡觉 吃饭 喝水 打开 关闭 帮助 开始 结束 旅行 运动 唱歌 跳舞 画画 电影 音乐 电脑 手机 电话
问题 答案 名字 故事 语言 英文 漂亮 便宜 重要 高兴 生气 有趣 简单 困难 大家 可以 应该 已经 非常 特别
一起 因为 所以 但是 红 白 狗 猫 鱼 买 走 钱 六 九 万 男人 女孩 房间
"""
WORDS = {"en": tuple(_ENGLISH.split()), "zh": tuple(_MANDARIN.split())}

BASE_VOICES = tuple("m1 m2 m3 m4 m5 f1 f2 f3 Andy Gene Mike david Alicia".split())
VALID_VOICES = ("m6", "f4", "Lee", "belinda")
RETENTION_VOICES = ("m7", "f5", "Michael", "Annie")
NEW_TRAIN_VOICES = ("m8", "adam", "paul", "anika", "quincy", "linda")
NEW_VALID_VOICES = ("edward", "steph", "travis")
NEW_TEST_VOICES = ("max", "john", "caleb", "Andrea")
ACCENTS = ("en", "en-US", "en-GB-x-rp", "en-GB-scotland", "en-029")


@dataclass(frozen=True)
class Set:
    """One set: what is said, by whom, and how.

    Attributes:
        size: Utterances.
        domain: `base`, `en`, `zh` or `cs`.
        voices: Speakers.
        words: Of each language.
        longest: Words of a switched sentence at most.
        rate: Words per minute, from the first to below the second.
        noise: Decibels of the noise below the speech, from and to.
        accents: Of English.
        pitch: espeak-ng's, from the first to below the second.
        echo: Seconds in which the room's echo falls by 60 dB, from and to; 0: no room.
        clipped: Share of the samples that the microphone cuts off, from and to.
    """

    size: int
    domain: str
    voices: tuple[str, ...]
    words: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: WORDS)
    longest: int = 7
    rate: tuple[int, int] = (130, 201)
    noise: tuple[float, float] = (20.0, 40.0)
    accents: tuple[str, ...] = ACCENTS
    pitch: tuple[int, int] = (35, 66)
    echo: tuple[float, float] = (0.0, 0.0)
    clipped: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Corpus:
    """A corpus of spoken sentences.

    Attributes:
        seed: Of everything random.
        sets: By name; the order matters: a sentence belongs to the first set that draws it.
        after: A corpus none of whose sentences occurs in this one.
    """

    seed: int
    sets: Mapping[str, Set]
    after: Corpus | None = None


SETS = {
    "test_cs": Set(200, "cs", NEW_TEST_VOICES),
    "ret_en": Set(200, "en", RETENTION_VOICES),
    "ret_zh": Set(200, "zh", RETENTION_VOICES),
    "valid_cs": Set(150, "cs", NEW_VALID_VOICES),
    "valid_en": Set(150, "en", VALID_VOICES),
    "valid_zh": Set(150, "zh", VALID_VOICES),
    "train_cs": Set(600, "cs", NEW_TRAIN_VOICES),
    "base_valid": Set(300, "base", VALID_VOICES),
    "base_train": Set(8000, "base", BASE_VOICES),
}


MINI_CS = Corpus(SEED, SETS)


@dataclass(frozen=True)
class Utterance:
    """One utterance to be spoken: its words with their languages, and how they sound."""

    id: str
    speaker: str
    words: tuple[tuple[str, str], ...]  # (language, word)
    accent: str
    rate: int  # words per minute
    pitch: int  # 0-99
    seed: int
    noise: tuple[float, float] = (20.0, 40.0)  # dB below the speech
    echo: tuple[float, float] = (0.0, 0.0)  # seconds of 60 dB
    clipped: tuple[float, float] = (0.0, 0.0)  # share of the samples

    @property
    def language(self) -> str:
        """Return Whisper's language code; a code-switched sentence counts as Mandarin."""
        return "zh" if any(language == "zh" for language, _ in self.words) else "en"

    @property
    def text(self) -> str:
        """Return the transcript as Whisper would write it."""
        runs = (" " + " ".join(w) if lang == "en" else "".join(w) for lang, w in self.runs())
        return "".join(runs).strip()

    def runs(self) -> list[tuple[str, list[str]]]:
        """Return the maximal stretches of words in one language."""
        runs: list[tuple[str, list[str]]] = []
        for language, word in self.words:
            if runs and runs[-1][0] == language:
                runs[-1][1].append(word)
            else:
                runs.append((language, [word]))
        return runs


def _draw(rng: np.random.Generator, spec: Set) -> tuple[tuple[str, str], ...]:
    """Draw the words of one sentence."""
    domain = spec.domain
    if domain == "cs":
        length = int(rng.integers(3, spec.longest + 1))
        languages: list[str] = [str(rng.choice(["en", "zh"]))]
        while len(languages) < length:
            same = rng.random() < 0.55
            languages.append(languages[-1] if same else ("zh" if languages[-1] == "en" else "en"))
        if len(set(languages)) == 1:
            return _draw(rng, spec)
    else:
        language = str(rng.choice(["en", "zh"])) if domain == "base" else domain
        languages = [language] * int(rng.integers(2, 7))
    words: list[tuple[str, str]] = []
    # No word twice in a row.
    for language in languages:
        choices = [w for w in spec.words[language] if not words or w != words[-1][1]]
        words.append((language, choices[int(rng.integers(len(choices)))]))
    return tuple(words)


def plan(
    sets: list[str] | None = None, scale: float = 1.0, corpus: Corpus = MINI_CS
) -> dict[str, list[Utterance]]:
    """Decide every utterance of `sets` (all by default) without speaking any.

    A scaled-down set is the beginning of the full one: `scale` in (0, 1].

    Raises:
        ValueError: A set is unknown, or the scale is outside (0, 1].
    """
    chosen = list(corpus.sets) if sets is None else list(sets)
    unknown = [name for name in chosen if name not in corpus.sets]
    if unknown:
        raise ValueError(
            f"the corpus has no set {', '.join(unknown)}; it has {', '.join(corpus.sets)}"
        )
    if not 0 < scale <= 1:
        raise ValueError(f"scale must be in (0, 1], found {scale}")
    # All sets before the last one that is wanted are drawn, so that none depends on the choice.
    before = {} if corpus.after is None else plan(corpus=corpus.after)
    seen = {utterance.words for utterances in before.values() for utterance in utterances}
    result = {}
    for name, spec in corpus.sets.items():
        if all(other in result for other in chosen):
            break
        rng = np.random.default_rng([corpus.seed, zlib.crc32(name.encode())])
        utterances: list[Utterance] = []
        while len(utterances) < spec.size:
            words = _draw(rng, spec)
            voice = spec.voices[int(rng.integers(len(spec.voices)))]
            sound = (
                spec.accents[int(rng.integers(len(spec.accents)))],
                int(rng.integers(*spec.rate)),
                int(rng.integers(*spec.pitch)),
                int(rng.integers(2**31)),
            )
            if words in seen:
                continue
            seen.add(words)
            key = f"{voice}-{name}-{len(utterances):05d}"
            channel = spec.noise, spec.echo, spec.clipped
            utterances.append(Utterance(key, voice, words, *sound, *channel))
        if name in chosen:
            result[name] = utterances[: max(1, round(scale * spec.size))]
    return {name: result[name] for name in chosen}


def _trim(wave: np.ndarray, keep: float = 0.03) -> np.ndarray:
    """Cut leading and trailing silence, keeping `keep` seconds of it."""
    loud = np.flatnonzero(np.abs(wave) > 0.01 * np.abs(wave).max())
    margin = int(keep * espeak.SAMPLE_RATE)
    return wave[max(0, loud[0] - margin) : loud[-1] + 1 + margin]


def _noise(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return noise of unit power whose spectrum falls by 0-6 dB per octave."""
    slope = rng.uniform(0.0, 1.0)
    spectrum = np.fft.rfft(rng.standard_normal(size))
    spectrum *= np.maximum(np.arange(len(spectrum)), 8.0) ** -slope
    noise = np.fft.irfft(spectrum, size)
    return noise / np.sqrt(np.mean(noise**2))


def _in_a_room(wave: np.ndarray, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Return speech with the echo of a room: noise that falls by 60 dB in so many seconds.

    The echo begins 5 ms behind the sound and is as strong as it.
    """
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    echo = rng.standard_normal(len(time)) * 10 ** (-3 * time / seconds)
    echo[: int(0.005 * SAMPLE_RATE)] = 0.0
    echo /= np.sqrt(np.sum(echo**2))
    echo[0] = 1.0
    size = len(wave) + len(echo) - 1
    return np.fft.irfft(np.fft.rfft(wave, size) * np.fft.rfft(echo, size), size)


def speak(utterance: Utterance) -> np.ndarray:
    """Speak one utterance: int16 samples at 16 kHz.

    The runs of each language are spoken by the same speaker variant at the same speed and pitch
    and joined with gaps of at most 60 ms; a room gives it its echo; the speech is brought to one
    level within 3 dB, noise is added at `noise` dB below it, and the loudest samples are clipped.
    """
    # Speak each run of one language.
    rng = np.random.default_rng(utterance.seed)
    voices = {"en": utterance.accent, "zh": "cmn"}
    runs = [
        espeak.Run(
            " ".join(words), voices[lang], utterance.speaker, utterance.rate, utterance.pitch
        )
        for lang, words in utterance.runs()
    ]
    # Join them, between two stretches of silence.
    silence = [np.zeros(int(rng.uniform(0.05, 0.25) * espeak.SAMPLE_RATE))]
    pieces = list(silence)
    for index, wave in enumerate(espeak.synthesise(runs, utterance.seed)):
        if not wave.any():
            raise ValueError(f"{utterance.id}: espeak-ng gave silence for {runs[index].text!r}")
        if index:
            pieces.append(np.zeros(int(rng.uniform(0.0, 0.06) * espeak.SAMPLE_RATE)))
        pieces.append(_trim(wave / 32768.0))
    pieces.append(np.zeros(int(rng.uniform(0.05, 0.25) * espeak.SAMPLE_RATE)))
    wave = soxr.resample(np.concatenate(pieces), espeak.SAMPLE_RATE, SAMPLE_RATE, quality="HQ")
    if utterance.echo[1] > 0:
        wave = _in_a_room(wave, rng.uniform(*utterance.echo), rng)
    # Set the level, add noise, clip, and keep the peaks within the range of 16 bits.
    level = 10 ** ((LEVEL_DB + rng.uniform(-3.0, 3.0)) / 20)
    wave *= level / np.sqrt(np.mean(wave**2))
    wave += _noise(rng, len(wave)) * level * 10 ** (-rng.uniform(*utterance.noise) / 20)
    if utterance.clipped[1] > 0:
        most = np.quantile(np.abs(wave), 1.0 - rng.uniform(*utterance.clipped))
        wave = np.clip(wave, -most, most)
    peak = np.abs(wave).max()
    if peak > 0.95:
        wave *= 0.95 / peak
    return np.round(wave * 32767).astype(np.int16)


def _write(job: tuple[str, Utterance]) -> int:
    """Speak one utterance into a file; return its length in samples."""
    path, utterance = job
    wave = speak(utterance)
    audio.write(path, wave)
    return len(wave)


def build(
    out_dir: str | Path,
    sets: list[str] | None = None,
    nj: int = 2,
    scale: float = 1.0,
    clips_dir: str | Path | None = None,
    corpus: Corpus = MINI_CS,
) -> dict[str, int]:
    """Write data directories `out_dir/<set>` and their audio, 16 kHz mono 16-bit WAV.

    Args:
        out_dir: Folder of the data directories.
        sets: Names of the corpus's sets; by default all.
        nj: Processes.
        scale: The share of every set that is made, from its beginning.
        clips_dir: Where `<set>/<id>.wav` go, by default `out_dir/audio`; paths in wav.scp are as
            given here, relative or absolute.
        corpus: The corpus.

    Returns:
        Utterances per set.

    Raises:
        ValueError: A set is unknown, the scale is outside (0, 1], or `nj` is below 1.
        RuntimeError: espeak-ng fails.
    """
    if nj < 1:
        raise ValueError(f"nj must be at least 1, found {nj}")
    chosen = plan(sets, scale, corpus)
    out_dir = Path(out_dir)
    clips_dir = Path(clips_dir) if clips_dir is not None else out_dir / "audio"
    # spawn: the workers must not carry this process's threads and libraries into every fork
    with ProcessPoolExecutor(nj, mp_context=get_context("spawn")) as pool:
        for name, utterances in chosen.items():
            folder = clips_dir / name
            folder.mkdir(parents=True, exist_ok=True)
            wav = {u.id: str(folder / f"{u.id}.wav") for u in utterances}
            # Speak, with a message now and then.
            started, done, samples = time.monotonic(), 0, 0
            for size in pool.map(_write, [(wav[u.id], u) for u in utterances], chunksize=8):
                done, samples = done + 1, samples + size
                if done % 1000 == 0:
                    spent = time.monotonic() - started
                    rest = spent / done * (len(utterances) - done)
                    log.info(f"{name}: {done}/{len(utterances)} spoken, {rest:.0f} s remain")
            kaldi.write_data_dir(
                out_dir / name,
                wav,
                {u.id: u.text for u in utterances},
                {u.id: u.speaker for u in utterances},
                {u.id: u.language for u in utterances},
            )
            hours = samples / SAMPLE_RATE / 3600
            log.info(
                f"{name}: {len(utterances)} utterances, {hours:.2f} h, "
                f"{2 * samples / 1e6:.0f} MB in {folder}, {time.monotonic() - started:.0f} s"
            )
    return {name: len(utterances) for name, utterances in chosen.items()}
