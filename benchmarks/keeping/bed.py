"""A bed: audio of a new domain and of old ones, a base model, and decoding with any weights.

Two short cuts, which change nothing of what is compared:

* the token table may be cut to the tokens that texts of the bed need, the special ones and 1,000
  others, in training and decoding alike (the loss over 51,865 tokens is most of a step here);
* features are computed once, for no method changes them.
"""

from __future__ import annotations

import copy
import fcntl
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import batched
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from whisper.model import AudioEncoder, TextDecoder

from espnet_blora.adapters import Adapter, add_adapter
from espnet_blora.adapters.moments import new_sums
from espnet_blora.adapters.targets import find_targets
from espnet_blora.data import audio, unlabelled
from espnet_blora.decoding.moments import inputs_of, listen
from espnet_blora.decoding.options import DecodingOptions
from espnet_blora.decoding.recogniser import Recogniser, open_whisper
from espnet_blora.decoding.search import search
from espnet_blora.scoring.errors import score
from espnet_blora.utils.keyed import read_keyed
from espnet_blora.whisper.checkpoint import load_whisper
from espnet_blora.whisper.decoder import logits_of, states
from espnet_blora.whisper.encoder import encode_features, log_mel
from espnet_blora.whisper.packed import WORTH, pack
from espnet_blora.whisper.vocabulary import N_PROMPT, Vocabulary

TARGETS = ["query", "key", "value", "out", "mlp.0", "mlp.2"]
OTHERS = 1000  # tokens of the cut table that no text needs
IGNORED = -100
# as mini_cs's conf/decode.yaml
SEARCH = DecodingOptions(rule="espnet", beam_size=1, maxlenratio=0.2)
HEARD, SEARCHED = 64, 256  # utterances encoded, and searched, together: what a cache holds


@dataclass(frozen=True)
class Set:
    """Utterances of one set; ids of tokens are those of the bed's table.

    Attributes:
        ids: Of the utterances.
        mels: Features of each, (80, T).
        prompts: Tokens before the text.
        tokens: Of the text.
        texts: The references.
        seconds: Of all audio.
    """

    ids: list[str]
    mels: list[Tensor]
    prompts: list[list[int]]
    tokens: list[list[int]]
    texts: list[str]
    seconds: float

    def batches(self, size: int) -> list[list[int]]:
        """Return numbers of utterances by `size` of about one length, as `batch_type: sorted`."""
        order = sorted(range(len(self.ids)), key=lambda row: self.mels[row].shape[1])
        return [list(rows) for rows in batched(order, size)]

    def features(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return features (B, 80, T), zero behind each utterance, and frames (B,)."""
        frames = torch.tensor([self.mels[row].shape[1] for row in rows])
        mel = torch.zeros(len(rows), self.mels[0].shape[0], int(frames.max()))
        for place, row in enumerate(rows):
            mel[place, :, : frames[place]] = self.mels[row]
        return mel, frames


class Bed:
    """The sets of a recipe's data/, and its base model.

    Attributes:
        sets: By name.
        encoder, decoder: Of the base; never changed.
        vocabulary: Of the base's file.
        kept: (n,) its ids that are in the bed's table, rising.
        digest: Of the base's file.
    """

    def __init__(
        self,
        data: Path,
        base: Path,
        names: Iterable[str],
        cut: bool = True,
        most: int | None = None,
    ) -> None:
        """Read the sets and the base.

        Args:
            data: Folder of the data directories.
            base: File of the base.
            names: Of the sets.
            cut: Whether the token table is cut.
            most: Utterances of each set at most.
        """
        self.data, self.base = data, base
        self.digest = hashlib.sha256(base.read_bytes()).hexdigest()[:12]
        whisper = load_whisper(base, start=False).eval().requires_grad_(False)
        self.encoder, self.decoder = whisper.encoder, whisper.decoder
        self.vocabulary = Vocabulary.of(whisper.dims.n_vocab)
        read = {name: _read(data / name, self.vocabulary, most) for name in names}
        self._cut([text for texts, *_ in read.values() for text in texts.values()], cut)
        self.sets = {name: self._set(*found) for name, found in read.items()}

    def _cut(self, texts: Iterable[str], cut: bool) -> None:
        vocabulary = self.vocabulary
        self.kept = np.arange(vocabulary.n_vocab)
        if cut:
            used = {token for text in texts for token in vocabulary.encode(text)}
            used |= {token for code in ("en", "zh") for token in vocabulary.prompt(code)}
            used.add(vocabulary.eot)
            free = np.setdiff1d(np.arange(vocabulary.eot), list(used))
            others = np.random.default_rng(5).choice(free, OTHERS, replace=False)
            self.kept = np.array(sorted(used | set(others.tolist())))
            table = self.decoder.token_embedding.weight.detach()[torch.from_numpy(self.kept)]
            self.decoder.token_embedding = nn.Embedding.from_pretrained(table, freeze=True)
        self.place = {int(token): place for place, token in enumerate(self.kept)}
        self.eot = self.place[vocabulary.eot]

    def _set(self, texts: dict, places: dict, languages: dict) -> Set:
        waves = unlabelled.Clips(places)
        ids = sorted(texts)
        mels, seconds = [], 0.0
        for uid in ids:
            wave = torch.from_numpy(waves[uid])[None]
            mels.append(
                log_mel(wave, torch.tensor([wave.shape[1]]), self.encoder.conv1.in_channels)[0][0]
            )
            seconds += wave.shape[1] / audio.SAMPLE_RATE
        here = lambda tokens: [self.place[token] for token in tokens]  # noqa: E731
        return Set(
            ids,
            mels,
            [here(self.vocabulary.prompt(languages[uid])) for uid in ids],
            [here(self.vocabulary.encode(texts[uid])) for uid in ids],
            [texts[uid] for uid in ids],
            seconds,
        )

    # ---- models ----

    def adapted(self, method: str, conf: Mapping) -> tuple[nn.Module, Adapter]:
        """Return a copy of the base with a fresh adapter, under an experiment's names."""
        model = self.plain()
        return model, add_adapter(model, method, **conf)

    def plain(self) -> nn.Module:
        """Return a copy of the base, under an experiment's names."""
        return self._named(*self._copies())

    def _copies(self) -> tuple[AudioEncoder, TextDecoder]:
        return copy.deepcopy(self.encoder), copy.deepcopy(self.decoder)

    def _named(self, encoder: AudioEncoder, decoder: TextDecoder) -> nn.Module:
        return Recogniser(encoder, decoder, self.vocabulary, "batch", [], "bed").as_trained()

    def logits(
        self, model: nn.Module, s: Set, rows: Sequence[int], texts: Sequence[Sequence[int]]
    ) -> tuple[Tensor, Tensor]:
        """Return the logits (N, V) of all text tokens and ends of text, and these tokens (N,)."""
        encoder, decoder = model["encoder"]["encoders"], model["decoder"]["decoders"]
        memory, lengths = encode_features(encoder, *s.features(rows))
        longest = max(map(len, texts))
        inputs = torch.full((len(rows), N_PROMPT + longest), self.eot)
        targets = torch.full((len(rows), longest + 1), IGNORED)
        for place, (row, text) in enumerate(zip(rows, texts, strict=True)):
            inputs[place, : N_PROMPT + len(text)] = torch.tensor([*s.prompts[row], *text])
            targets[place, : len(text) + 1] = torch.tensor([*text, self.eot])
        counted = targets != IGNORED  # (B, L + 1)
        hidden = states(decoder, inputs, memory, lengths)[:, N_PROMPT - 1 :]
        return logits_of(decoder, hidden[counted]), targets[counted]

    # ---- decoding ----

    @torch.inference_mode()
    def transcribe(self, s: Set, weights: Mapping[str, Tensor]) -> list[tuple[int, ...]]:
        """Return the tokens of each utterance, greedily, by the base with these weights in it."""
        encoder, decoder = self._copies()
        model = self._named(encoder, decoder)
        for name, weight in weights.items():
            model.get_submodule(name).weight.copy_(weight)
        pack(encoder)
        pack(decoder, WORTH)
        found: dict[int, tuple[int, ...]] = {}
        for rows in s.batches(SEARCHED):
            parts = [encode_features(encoder, *s.features(part)) for part in batched(rows, HEARD)]
            memories = [memory for part, _ in parts for memory in part]  # of unequal padding
            memory = nn.utils.rnn.pad_sequence(memories, batch_first=True)
            lengths = torch.cat([length for _, length in parts])
            prompts = [s.prompts[row] for row in rows]
            best = search(decoder, memory, lengths, prompts, self.eot, SEARCH)
            found.update((row, b[0].ids if b else ()) for row, b in zip(rows, best, strict=True))
        return [found[row] for row in range(len(s.ids))]

    def errors(self, s: Set, tokens: Sequence[Sequence[int]]) -> np.ndarray:
        """Return errors and reference tokens of each utterance, (U, 2)."""
        ref = dict(zip(s.ids, s.texts, strict=True))
        hyp = {
            uid: self.vocabulary.line(int(self.kept[token]) for token in text)
            for uid, text in zip(s.ids, tokens, strict=True)
        }
        found = {u.id: u for u in score(ref, hyp, "mer", "basic").utterances}
        return np.array([[found[uid].errors, found[uid].tokens] for uid in s.ids])

    # ---- moments ----

    def hear(self, name: str, path: Path, adapter: Adapter | None, most: int | None) -> Path:
        """Write the moments of a set's audio, of which no text is used, unless they are there.

        Args:
            name: The set.
            path: The file.
            adapter: Of the model that hears; None: the base does.
            most: Utterances at most.
        """
        with alone(path):
            if path.is_file():
                return path
            recogniser = open_whisper(self.base, pad_to="batch", merge=False, packed=False)
            if adapter is not None:
                fresh = add_adapter(
                    recogniser.as_trained(), adapter.method, **adapter.config.as_dict()
                )
                with torch.no_grad():
                    for factor, value in fresh.factors().items():
                        value.copy_(adapter.factors()[factor])
            model = recogniser.as_trained()
            linears = find_targets(model, TARGETS, adapted=True)
            places, languages = unlabelled.find(self.data / name, most=most)
            made = {"pad_to": "batch", "through": "adapted" if adapter else "base"}
            sums = new_sums(dict(model.named_parameters()), inputs_of(linears), made)
            clips = {name: unlabelled.Clips(places)}
            listen(
                recogniser, clips, sums, DecodingOptions(language=languages, beam_size=1), _nothing
            )
            sums.export(path, {"set": name})
        return path


def _nothing(_: object) -> None:
    """Save nothing on the way."""


def _read(folder: Path, vocabulary: Vocabulary, most: int | None) -> tuple[dict, dict, dict]:
    """Return texts, places and languages of a data directory's utterances."""
    places, languages = unlabelled.find(folder, vocabulary.languages, most)
    texts = read_keyed(folder / "text")
    return {uid: texts[uid.removeprefix(f"{folder}/")] for uid in places}, places, languages


@contextmanager
def alone(path: Path, wait: bool = True) -> Iterator[bool]:
    """Let one process at a time in, of those that make `path`; yield whether this one is.

    Args:
        path: What is made; `path` with .lock behind is held, and let go if the process dies.
        wait: Whether to wait for the others.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
