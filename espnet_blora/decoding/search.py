"""Greedy and beam search over a batch of utterances that leave it when they are done.

One loop serves both rules (`espnet_blora.decoding.beam`). A step is one pass of the cached decoder
over all rows, a top-k that never sorts the vocabulary, and some bookkeeping in numbers: only the
few best continuations of each hypothesis ever leave the device.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from whisper.model import TextDecoder

from espnet_blora.decoding.beam import STATES, BeamState, Candidate, Hypothesis
from espnet_blora.decoding.options import DecodingOptions
from espnet_blora.whisper.decoder import KVCache, logits_of
from espnet_blora.whisper.vocabulary import N_PROMPT

CHUNK = 128
"""Tokens whose maximum is taken at once by `top`."""

LEAVE = 8
"""Utterances leave the batch when at least one in so many is done (leaving copies the others)."""


class Filter(Protocol):
    """A function that changes logits before the softmax, usually by forbidding tokens."""

    def __call__(self, logits: Tensor, texts: Tensor) -> None:
        """Change `logits` (N, n_vocab) fp32 in place, given `texts` (N, step), ids so far (CPU)."""


def top(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest of each row and their columns, (N, k) each, as `torch.topk` does.

    The k largest lie in the k chunks with the largest maxima, so only those are sorted.
    """
    rows, columns = scores.shape
    whole = columns - columns % CHUNK
    if whole // CHUNK <= 4 * k:
        return scores.topk(k)
    heads = scores[:, :whole].unflatten(1, (-1, CHUNK)).amax(-1)
    chunks = heads.topk(k)[1]
    index = (chunks.unsqueeze(-1) * CHUNK + torch.arange(CHUNK, device=scores.device)).flatten(1)
    rest = torch.arange(whole, columns, device=scores.device).expand(rows, -1)
    index = torch.cat([index, rest], dim=1)
    values, places = scores.gather(1, index).topk(k)
    return values, index.gather(1, places)


class _Search:
    """The state of one search; `run` is all there is to call."""

    def __init__(
        self,
        decoder: TextDecoder,
        memory: Tensor,
        lengths: Tensor,
        prompts: Sequence[Sequence[int]],
        eot: int,
        options: DecodingOptions,
        filters: Sequence[Filter],
        n_samples: int,
        no_speech: int | None,
    ):
        self.decoder, self.no_speech = decoder, no_speech
        self.silence = [0.0] * len(prompts)
        self.filters, self.n_samples, self.eot = filters, n_samples, eot
        self.beam, self.temperature = options.beam_size, options.temperature
        self.generator = torch.Generator().manual_seed(options.seed)
        self.n_prompt = len(prompts[0])
        self.n_text_ctx = decoder.positional_embedding.shape[0]
        self.forces_end = options.rule == "espnet"
        self.device = memory.device
        self.cache = KVCache(decoder, memory, lengths)
        self.utterances: list[BeamState] = [
            STATES[options.rule](options, eot, self.n_prompt, length, self.n_text_ctx)
            for length in lengths[: len(prompts)].tolist()
        ]
        self.live = list(range(len(prompts)))  # utterances whose rows are in the cache
        self.going = set(self.live)  # those of them that are not done
        self.slots = 1  # rows per utterance and sample
        self.tokens = torch.tensor([list(p) for p in prompts], device=self.device)
        self.scores = torch.zeros(len(prompts), 1, device=self.device)
        self.texts = np.zeros((len(prompts), self.n_text_ctx + 1), dtype=np.int64)

    def run(self) -> list[list[Hypothesis]]:
        """Search until no utterance is going; return the hypotheses of each."""
        step = 0
        while self.going:
            values, columns, parents = self._best(step)
            self._update(step, values, columns, parents)
            step += 1
        return [
            [dataclasses.replace(found, no_speech_prob=silence) for found in state.best()]
            for state, silence in zip(self.utterances, self.silence, strict=True)
        ]

    def _log_probabilities(self, step: int) -> Tensor:
        """Return those of the next token, (rows, n_vocab): the mean over samples, if several."""
        hidden = self.cache.read(self.tokens.repeat(self.n_samples, 1))  # (S * rows, L, n_state)
        logits = logits_of(self.decoder, hidden[:, -1])  # (S * rows, n_vocab)
        if step == 0 and self.no_speech is not None:
            # behind the start token, the first of the prompt proper, as openai-whisper
            chances = logits_of(self.decoder, hidden[:, -N_PROMPT]).softmax(-1)[:, self.no_speech]
            self.silence = chances.unflatten(0, (self.n_samples, -1)).mean(0).tolist()
        if self.filters:
            texts = torch.from_numpy(self.texts[:, :step]).repeat(self.n_samples, 1)
            for change in self.filters:
                change(logits, texts)
        scores = torch.log_softmax(logits, dim=-1)  # (S * rows, n_vocab)
        # the mean of the draws' probabilities
        if self.n_samples > 1:
            scores = scores.unflatten(0, (self.n_samples, -1)).logsumexp(0)
            scores -= math.log(self.n_samples)
        # where the positions end, only end of text fits
        if self.forces_end and self.n_prompt + step >= self.n_text_ctx:
            end = scores[:, self.eot].clone()
            scores.fill_(-math.inf)
            scores[:, self.eot] = end
        return scores

    def _continuations(self, step: int, k: int) -> tuple[Tensor, Tensor]:
        """Return the best tokens of each row and their log probabilities, (rows, k) each.

        At a temperature above 0 it is one token, drawn: the largest of log p / temperature plus
        Gumbel noise. All rows see the same noise, so that a batch does not change what is drawn.
        """
        scores, temperature = self._log_probabilities(step), self.temperature
        if not temperature:
            return top(scores, k)
        noise = torch.empty(scores.shape[1]).exponential_(generator=self.generator).log_().neg_()
        columns = (scores / temperature + noise.to(self.device)).argmax(-1, keepdim=True)
        return scores.gather(1, columns), columns

    def _best(self, step: int) -> tuple[list, list, list]:
        """Return the best continuations per live utterance: scores, tokens, slots, best first."""
        # the best tokens of each row, (rows, k)
        first = self.utterances[0]
        values, columns = self._continuations(step, first.n_continuations)
        penalty = first.options.penalty if first.options.rule == "espnet" else 0.0
        values = (values + penalty).unflatten(0, (-1, self.slots)) + self.scores.unsqueeze(-1)
        # the best rows and tokens of each utterance, (utterances, n_candidates)
        k = values.shape[-1]
        values, places = values.flatten(1).topk(min(first.n_candidates, self.slots * k))
        columns = columns.reshape(len(self.live), -1).gather(1, places)
        # one transfer per step: ids are whole numbers below 2^53
        packed = torch.stack([values.double(), columns.double(), (places // k).double()]).tolist()
        return packed[0], packed[1], packed[2]

    def _update(self, step: int, values: list, columns: list, parents: list) -> None:
        """Let each utterance choose among its continuations, and move the rows accordingly."""
        # by default a slot keeps its row, says end of text and can never win
        beam = self.beam
        rows = [place * self.slots for place in range(len(self.live)) for _ in range(beam)]
        tokens = [self.eot] * len(rows)
        scores = [-math.inf] * len(rows)
        for place, utterance in enumerate(self.live):
            if utterance not in self.going:
                continue
            # what the utterance may choose from
            candidates = [
                Candidate(score, int(slot), int(token))
                for score, token, slot in zip(
                    values[place], columns[place], parents[place], strict=True
                )
                if score != -math.inf
            ]
            if not candidates or math.isnan(candidates[0].score):
                raise ValueError(
                    f"row {utterance} of the batch: no token has a probability (scores "
                    f"{values[place][:3]}); check the checkpoint and the audio, and use float32"
                )
            # its rule chooses what runs on; nothing does when the utterance is done
            first = place * self.slots
            texts = self.texts[first : first + self.slots, :step].tolist()
            running = self.utterances[utterance].update(step, candidates, texts)
            if not running:
                self.going.discard(utterance)
                continue
            # each survivor gets a slot
            for slot, candidate in _placed(running, beam):
                at = place * beam + slot
                rows[at] = first + candidate.slot
                tokens[at] = candidate.token
                scores[at] = candidate.score
        if not self.going:
            return
        # texts, keys and values follow their rows, in every sample
        self.texts = self.texts[rows]
        self.texts[:, step] = tokens
        n_rows = len(self.live) * self.slots
        self.cache.select([s * n_rows + row for s in range(self.n_samples) for row in rows])
        self.slots = beam
        self.tokens = torch.tensor(tokens, device=self.device).unsqueeze(1)
        self.scores = torch.tensor(scores, device=self.device).reshape(-1, beam)
        if (len(self.live) - len(self.going)) * LEAVE >= len(self.live):
            self._let_go()

    def _let_go(self) -> None:
        """Take the utterances that are done out of the batch."""
        places = [place for place, utterance in enumerate(self.live) if utterance in self.going]
        n = len(self.live)
        self.cache.keep([s * n + place for s in range(self.n_samples) for place in places])
        index = torch.tensor(places, device=self.device)
        self.tokens = self.tokens.unflatten(0, (n, -1)).index_select(0, index).flatten(0, 1)
        self.scores = self.scores.index_select(0, index)
        self.texts = self.texts.reshape(n, self.slots, -1)[places].reshape(
            len(places) * self.slots, -1
        )
        self.live = [self.live[place] for place in places]


def _placed(running: Sequence[Candidate], beam: int) -> list[tuple[int, Candidate]]:
    """Give each survivor a slot: its parent's where that is free, so that little is copied."""
    free = set(range(beam))
    placed, others = [], []
    for candidate in running:
        if candidate.slot in free:
            free.remove(candidate.slot)
            placed.append((candidate.slot, candidate))
        else:
            others.append(candidate)
    # fewer may run on than there are slots
    return placed + list(zip(sorted(free), others, strict=False))


@torch.inference_mode()
def search(
    decoder: TextDecoder,
    memory: Tensor,
    memory_lengths: Tensor,
    prompts: Sequence[Sequence[int]],
    eot: int,
    options: DecodingOptions | None = None,
    filters: Sequence[Filter] = (),
    n_samples: int = 1,
    no_speech: int | None = None,
) -> list[list[Hypothesis]]:
    """Find the most probable texts of a batch.

    score(y) = sum_t log p(y_t | y_<t, prompt, memory), with p the mean over samples where there
    are several.

    Args:
        decoder: a `whisper.model.TextDecoder`.
        memory: encoder output, (S * B, T', n_state), sample-major: row s * B + b.
        memory_lengths: real positions of each, (S * B,).
        prompts: B prompts of one length.
        eot: id of end of text.
        options: see `DecodingOptions`.
        filters: applied in this order to the logits of every step.
        n_samples: S, the posterior samples that the rows of `memory` (and the adapter's context)
            hold.
        no_speech: id of the token whose probability behind the start token is asked for.

    Returns:
        B lists of hypotheses, best first, at least one each, except where rule `espnet` found none
        as long as `minlenratio` wants (as ESPnet, it tries smaller ratios from 0.1 on first).

    Raises:
        ValueError: logits that are not numbers.
    """
    options = options or DecodingOptions()
    if not prompts:
        return []
    nbest = _Search(
        decoder, memory, memory_lengths, prompts, eot, options, filters, n_samples, no_speech
    ).run()
    # as ESPnet does: a shorter least length for utterances without a hypothesis
    empty = [row for row, hypotheses in enumerate(nbest) if not hypotheses]
    if empty and options.minlenratio >= 0.1:
        rows = torch.tensor([s * len(prompts) + row for s in range(n_samples) for row in empty])
        again = search(
            decoder,
            memory[rows.to(memory.device)],
            memory_lengths[rows.to(memory_lengths.device)],
            [prompts[row] for row in empty],
            eot,
            dataclasses.replace(options, minlenratio=max(0.0, options.minlenratio - 0.1)),
            filters,
            n_samples,
            no_speech,
        )
        for row, hypotheses in zip(empty, again, strict=True):
            nbest[row] = hypotheses
    return nbest
