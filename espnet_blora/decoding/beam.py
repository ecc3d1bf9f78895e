"""The two rules of beam search: how ESPnet and openai-whisper choose among candidates.

A rule sees one utterance at a time and only numbers, never tensors: the best continuations of its
running hypotheses, best first. It says which run on, which have ended, and when nothing can change
any more, so that the utterance leaves the batch.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

from espnet_blora.decoding.options import DecodingOptions

END_DISTANCE = -10.0
"""ESPnet's end detection: hypotheses that much below the best one no longer count (in nats)."""


@dataclass(frozen=True)
class Hypothesis:
    """A text that a search has found.

    Attributes:
        ids: Tokens behind the prompt, without end of text.
        score: Sum of the log probabilities, end of text included, in nats (and of the penalties of
            rule `espnet`).
        ended: Whether end of text came by itself, not from the limit.
        no_speech_prob: Probability that nobody speaks, where the search was asked for it.
    """

    ids: tuple[int, ...]
    score: float
    ended: bool
    no_speech_prob: float = 0.0


@dataclass(frozen=True)
class Candidate:
    """One continuation: of the hypothesis in `slot`, by `token`, which makes `score`."""

    score: float
    slot: int
    token: int


@dataclass
class BeamState(ABC):
    """Where the search for one utterance stands.

    Attributes:
        options: How to search.
        eot: Id of end of text.
        n_prompt: Length of the prompt.
        n_memory: Positions of the memory.
        n_text_ctx: Positions of the decoder.
        ended: Ended hypotheses, each behind the figure that it is ranked by.
    """

    options: DecodingOptions
    eot: int
    n_prompt: int
    n_memory: int
    n_text_ctx: int
    ended: list[tuple[float, Hypothesis]] = field(default_factory=list)

    @property
    @abstractmethod
    def limit(self) -> int:
        """Steps at most."""

    @property
    @abstractmethod
    def n_candidates(self) -> int:
        """How many of the best continuations `update` wants to see."""

    @property
    def n_continuations(self) -> int:
        """How many continuations of one hypothesis may be among them."""
        return min(self.n_candidates, self.options.beam_size + 1)

    @abstractmethod
    def update(
        self, step: int, candidates: Sequence[Candidate], texts: Sequence[Sequence[int]]
    ) -> list[Candidate]:
        """Return what runs on, at most `beam_size`; an empty list ends the search.

        Args:
            step: number of tokens behind the prompt before this one.
            candidates: the `n_candidates` best continuations, best first.
            texts: the ids of each slot so far, behind the prompt.
        """

    def best(self) -> list[Hypothesis]:
        """Return the hypotheses, best first, `nbest` at most; earlier ones first among equals."""
        ranked = sorted(self.ended, key=lambda pair: pair[0], reverse=True)
        return [hypothesis for _, hypothesis in ranked[: self.options.nbest]]


@dataclass
class EspnetState(BeamState):
    """ESPnet's beam search: a hypothesis that ends makes room for no other.

    Nothing that ESPnet returns is lost by leaving earlier than it does: scores only fall, so an
    utterance is done when no running hypothesis can still rank among the `nbest`.
    """

    least: int = 0
    ends: dict[int, float] = field(default_factory=dict)
    """Length of the whole sequence -> best score of a hypothesis that ended with it."""

    def __post_init__(self) -> None:
        ratio = self.options.minlenratio
        self.least = -int(ratio) if ratio < 0 else int(ratio * self.n_memory)

    @property
    def _maxlenratio(self) -> float:
        return -(self.options.max_tokens or 0) or self.options.maxlenratio

    @property
    def limit(self) -> int:
        """Tokens by `maxlenratio`; ESPnet asks for end of text when the positions are used up."""
        ratio = self._maxlenratio
        if ratio == 0:
            return self.n_memory
        return -int(ratio) if ratio < 0 else max(1, int(ratio * self.n_memory))

    @property
    def n_candidates(self) -> int:
        """As many as the beam is wide."""
        return self.options.beam_size

    def _rank(self, score: float, tokens: int) -> float:
        """Return what a sequence of so many tokens behind the prompt is ranked by."""
        return score / (self.n_prompt + tokens - 1) if self.options.normalize_length else score

    def _end(self, step: int, candidate: Candidate, text: Sequence[int], appended: bool) -> None:
        if step < self.least:
            return
        ids = [*text, candidate.token]
        length = len(ids) + appended  # ESPnet always appends end of text in the last step
        if self.eot in ids:
            ids = ids[: ids.index(self.eot)]
        ended = candidate.token == self.eot
        hypothesis = Hypothesis(tuple(ids), candidate.score, ended)
        self.ended.append((self._rank(candidate.score, length), hypothesis))
        whole = self.n_prompt + length
        self.ends[whole] = max(self.ends.get(whole, -math.inf), candidate.score)

    def update(
        self, step: int, candidates: Sequence[Candidate], texts: Sequence[Sequence[int]]
    ) -> list[Candidate]:
        """See `BeamState.update`; ESPnet's `search` and `post_process`."""
        last = step == self.limit - 1
        running = []
        for candidate in candidates:
            if last or candidate.token == self.eot:
                self._end(step, candidate, texts[candidate.slot], appended=last)
            else:
                running.append(candidate)
        if self._maxlenratio == 0 and self._end_detected(step):
            return []
        return running if running and not self._settled(step, running[0].score) else []

    def _end_detected(self, step: int) -> bool:
        """Watanabe et al. 2017, eq. 50: three lengths in a row ended far below the best."""
        best = max(self.ends.values(), default=0.0)
        length = self.n_prompt + step - 1  # as ESPnet counts it
        return all(
            self.ends.get(length - back, math.inf) - best < END_DISTANCE for back in range(3)
        )

    def _settled(self, step: int, best: float) -> bool:
        """Whether no hypothesis with at most the score `best` can still be among the `nbest`."""
        if len(self.ended) < self.options.nbest:
            return False
        worst_kept = sorted((rank for rank, _ in self.ended), reverse=True)[self.options.nbest - 1]
        left = self.limit - step - 1
        most = best + max(0.0, self.options.penalty) * left
        bounds = [self._rank(most, step + 1 + more) for more in (0, left + 1)]
        return max(bounds) <= worst_kept


@dataclass
class WhisperState(BeamState):
    """openai-whisper's beam search: enough ended hypotheses end it; ranked by score per token."""

    running: list[tuple[float, tuple[int, ...]]] = field(default_factory=list)

    @property
    def limit(self) -> int:
        """Tokens at most; and as many as there are positions, and one more."""
        limit = self.options.max_tokens or self.n_text_ctx // 2
        return min(limit, self.n_text_ctx + 1 - self.n_prompt)

    @property
    def n_candidates(self) -> int:
        """So many that a beam is left when all hypotheses may end."""
        return 2 * self.options.beam_size

    @property
    def _enough(self) -> int:
        return round(self.options.beam_size * self.options.patience)

    def _end(self, ids: tuple[int, ...], score: float, ended: bool) -> None:
        alpha = self.options.length_penalty
        penalty = len(ids) if alpha is None else ((5 + len(ids)) / 6) ** alpha
        # openai-whisper divides by 0 where a text is empty: an empty one is ranked last here
        rank = score / penalty if penalty else -math.inf
        self.ended.append((rank, Hypothesis(ids, score, ended)))

    def update(
        self, step: int, candidates: Sequence[Candidate], texts: Sequence[Sequence[int]]
    ) -> list[Candidate]:
        """See `BeamState.update`; openai-whisper's `BeamSearchDecoder.update` and `finalize`."""
        running = []
        for candidate in candidates:
            if candidate.token == self.eot:
                if len(self.ended) < self._enough:
                    self._end(tuple(texts[candidate.slot]), candidate.score, ended=True)
                continue
            running.append(candidate)
            if len(running) == self.options.beam_size:
                break
        if len(self.ended) >= self._enough and self._enough >= self.options.beam_size:
            return []
        if len(self.ended) < self._enough and step < self.limit - 1:
            return running
        for candidate in running[: max(0, self.options.beam_size - len(self.ended))]:
            ids = (*texts[candidate.slot], candidate.token)
            self._end(ids, candidate.score, ended=False)
        return []


STATES: dict[str, type[BeamState]] = {"espnet": EspnetState, "whisper": WhisperState}
