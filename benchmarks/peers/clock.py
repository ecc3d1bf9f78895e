"""Where our time goes: timers around the parts of `espnet_blora.decoding`, each without its inner
ones, so that the parts add up to the whole."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import torch

PARTS = (
    "log-mel",
    "encoder",
    "cross keys and values",
    "decoder: self-attention",
    "decoder: cross-attention",
    "decoder: MLP",
    "decoder: norms, projections, embedding",
    "logits",
    "top-k",
    "moving the cache",
    "softmax, rules, bookkeeping",
    "batches",
)


class Clock:
    """Seconds of nested parts, each its own only."""

    def __init__(self, synchronise: Callable[[], None]):
        """Take what waits for the device."""
        self.synchronise = synchronise
        self.seconds: Counter[str] = Counter()
        self.open: list[str] = []
        self.last = 0.0

    def turn(self) -> None:
        """Give the time since the last turn to the part that is open."""
        self.synchronise()
        now = time.perf_counter()
        if self.open:
            self.seconds[self.open[-1]] += now - self.last
        self.last = now

    @contextmanager
    def part(self, name: str):
        self.turn()
        self.open.append(name)
        try:
            yield
        finally:
            self.turn()
            self.open.pop()

    def around(self, function: Callable, name: str | Callable[..., str]) -> Callable:
        """The function, its time counted under a name, or under what a function of its arguments
        names."""

        def timed(*args, **kwargs):
            with self.part(name if isinstance(name, str) else name(*args, **kwargs)):
                return function(*args, **kwargs)

        return timed


def profile(recogniser, work: Callable[[], object]) -> dict:
    """Seconds of each part of `work`, a call of our `decode`; timers cost a few per cent.

    Returns:
        {"parts": {name: seconds}, "wall": seconds}.
    """
    from espnet_blora.decoding import batch, search
    from espnet_blora.whisper import decoder, encoder

    cuda = recogniser.device.type == "cuda"
    clock = Clock(torch.cuda.synchronize if cuda else lambda: None)
    crosses = {id(block.cross_attn) for block in recogniser.decoder.blocks}

    def which(mha, *args, **kwargs) -> str:
        return PARTS[4] if id(mha) in crosses else PARTS[3]

    places = [
        (encoder, "log_mel", PARTS[0]),
        (encoder, "encode_features", PARTS[1]),
        (decoder.KVCache, "__init__", PARTS[2]),
        (decoder, "attend", which),
        (decoder.KVCache, "read", PARTS[6]),
        (search, "logits_of", PARTS[7]),
        (search, "top", PARTS[8]),
        (decoder.KVCache, "select", PARTS[9]),
        (decoder.KVCache, "keep", PARTS[9]),
        (batch, "search", PARTS[10]),
    ]
    with ExitStack() as stack:
        for owner, attribute, name in places:
            timed = clock.around(getattr(owner, attribute), name)
            stack.enter_context(patch.object(owner, attribute, timed))
        for block in recogniser.decoder.blocks:
            timed = clock.around(block.mlp.forward, PARTS[5])
            stack.enter_context(patch.object(block.mlp, "forward", timed))
        with clock.part(PARTS[11]):
            work()
    return {"parts": {name: clock.seconds[name] for name in PARTS}, "wall": clock.seconds.total()}
