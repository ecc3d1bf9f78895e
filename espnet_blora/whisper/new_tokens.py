"""Tokens of languages that Whisper lacks: a small table of embeddings beside the published one.

Their ids follow the published vocabulary (`Vocabulary.new_languages`). They stand in prompts only:
the product that makes logits is with the published table alone, so that no new token can be
said, and the checkpoint's own table keeps its name, shape and values.

Source: CL-MASR (della Libera et al. 2023, arXiv:2310.16931) adds one token per new language; DAMA
(arXiv:2602.01008) trains its embedding beside the adapter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from whisper.model import TextDecoder

from espnet_blora.whisper.vocabulary import Vocabulary

TABLE, CODES = "new_weight", "new_codes"
MEAN = "mean"


class ExtendedEmbedding(nn.Embedding):
    """An embedding of `n` published ids with a table of `k` further ones behind it.

    Attributes:
        weight: (n, d), as in the checkpoint.
        new_weight: (k, d).
        new_codes: The codes of the new languages as bytes, so that a saved table names them.
    """

    new_weight: nn.Parameter
    new_codes: Tensor

    @classmethod
    def over(cls, table: nn.Embedding, codes: Sequence[str], rows: Tensor) -> ExtendedEmbedding:
        """Put `rows` (k, d), of the languages `codes`, behind a table; its weight is shared."""
        n, width = table.weight.shape
        extended = cls(n, width, _weight=table.weight)
        extended.weight = table.weight
        extended.new_weight = nn.Parameter(rows.detach().clone())
        packed = torch.frombuffer(bytearray(" ".join(codes).encode("ascii")), dtype=torch.uint8)
        extended.register_buffer(CODES, packed.clone())
        return extended

    @property
    def languages(self) -> tuple[str, ...]:
        """The codes of the new languages, in the order of their ids."""
        return unpack_codes(self.new_codes)

    def forward(self, ids: Tensor) -> Tensor:
        """Ids (...) -> embeddings (..., d)."""
        n = self.num_embeddings
        known = nn.functional.embedding(ids.clamp(max=n - 1), self.weight)
        new = nn.functional.embedding((ids - n).clamp(min=0), self.new_weight)
        return torch.where((ids >= n).unsqueeze(-1), new, known)


def unpack_codes(packed: Tensor) -> tuple[str, ...]:
    """Return the codes in a buffer of `ExtendedEmbedding`."""
    return tuple(bytes(packed.detach().cpu().tolist()).decode("ascii", "replace").split())


def extend(decoder: TextDecoder, codes: Sequence[str], start: str = MEAN) -> None:
    """Give a decoder embeddings of new languages, in place; nothing changes without `codes`.

    Args:
        decoder: a `whisper.model.TextDecoder`.
        codes: the new languages, in the order of their ids.
        start: what their rows start from: `mean`, the mean of the embeddings of all languages that
            this Whisper has, or the code of one of these.

    Raises:
        ValueError: a code that `Vocabulary.of` refuses, or a start that this Whisper lacks.
    """
    if not codes:
        return
    table = decoder.token_embedding
    vocabulary = Vocabulary.of(table.num_embeddings, codes)
    known = Vocabulary.of(table.num_embeddings).languages
    if start != MEAN and start not in known:
        raise ValueError(
            f"new_language_init: {start!r}; allowed: mean, or a language that this Whisper has: "
            f"{' '.join(sorted(known))}"
        )
    ids = list(known.values()) if start == MEAN else [known[start]]
    row = table.weight.detach()[ids].float().mean(0).to(table.weight.dtype)
    rows = row.repeat(len(vocabulary.new_languages), 1)
    decoder.token_embedding = ExtendedEmbedding.over(table, vocabulary.new_languages, rows)


def find(model: nn.Module) -> tuple[str, ExtendedEmbedding] | None:
    """Return the name and the table of new languages in a model, None without one."""
    for name, module in model.named_modules():
        if isinstance(module, ExtendedEmbedding):
            return name, module
    return None


def check_agreement(given: Sequence[str] | None, vocabulary: Vocabulary) -> None:
    """Check that the new languages of a configuration, where it names any, are the token list's.

    Raises:
        ValueError: they are others, or in another order.
    """
    if given is not None and tuple(given) != vocabulary.new_languages:
        raise ValueError(
            f"decoder_conf.new_languages is {list(given)}, the token list has "
            f"{list(vocabulary.new_languages)}: leave the key out, the token list decides"
        )


def check_table(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Check that a checkpoint brings the embeddings of this model's new languages, and no others.

    Raises:
        ValueError: they are missing, of other languages, or of another width.
    """
    named = find(model)
    codes = next((key for key in state if key.endswith(f".{CODES}")), None)
    saved = () if codes is None else unpack_codes(state[codes])
    known = () if named is None else named[1].languages
    if saved != known:
        raise ValueError(
            f"the checkpoint's new languages are {' '.join(saved) or 'none'}, the model's are "
            f"{' '.join(known) or 'none'}. Remedy: use the config.yaml that was written with this "
            "checkpoint: its token list names them."
        )
    if named is None:
        return
    key = f"{named[0]}.{TABLE}"
    if key not in state:
        raise ValueError(
            f"the checkpoint lacks {key}, the embeddings of the new languages {' '.join(known)}: "
            "it would be decoded with prompts that nobody trained. Remedy: use another epoch's "
            "file; if it was cut short, copy it again."
        )
    shape, expected = tuple(state[key].shape), tuple(named[1].new_weight.shape)
    if shape != expected:
        raise ValueError(
            f"{key} has shape {shape} in the checkpoint, {expected} in the model: it was trained "
            "on a Whisper of another size. Remedy: use the --whisper that it was trained with."
        )
    if not bool(torch.isfinite(state[key]).all()):
        raise ValueError(f"{key} holds NaN or inf: training diverged; use an earlier checkpoint")
