"""Small Whispers with random weights: the one place where tests build them."""

from pathlib import Path

import torch
from whisper.model import ModelDimensions, Whisper

from espnet_blora.whisper.checkpoint import save_whisper


def dims(
    width: int = 16,
    layers: tuple[int, int] = (1, 1),
    *,
    heads: int = 2,
    vocab: int = 51865,
    context: int = 448,
) -> ModelDimensions:
    """Dimensions with both halves of one width; `layers` are the encoder's and the decoder's."""
    encoder, decoder = layers
    return ModelDimensions(
        *(80, 1500, width, heads, encoder), *(vocab, context, width, heads, decoder)
    )


def random_whisper(*args, seed: int = 0, positions: float = 1.0, **options) -> Whisper:
    """A Whisper of `dims(*args, **options)` in evaluation mode.

    `positions` is the deviation of the decoder's positional embedding, which openai-whisper leaves
    as the memory happens to be.
    """
    torch.manual_seed(seed)
    model = Whisper(dims(*args, **options))
    torch.nn.init.normal_(model.decoder.positional_embedding, std=positions)
    return model.eval()


def whisper_file(path: Path, *args, dtype: torch.dtype = torch.float16, **options) -> Path:
    """Write a `random_whisper` as a checkpoint file."""
    save_whisper(random_whisper(*args, **{"positions": 0.1, **options}), path, dtype=dtype)
    return path


def lively(n_text_ctx: int = 448, n_vocab: int = 51865, seed: int = 0) -> Whisper:
    """A Whisper of width 32 whose texts depend on the audio, the language and the prefix.

    The output projection is the input embedding, so with plain random weights the residual
    connection makes every model repeat itself; large layers and a small embedding prevent that.
    """
    model = random_whisper(32, (2, 2), context=n_text_ctx, vocab=n_vocab, seed=seed, positions=0.3)
    decoder = model.decoder
    with torch.no_grad():
        decoder.token_embedding.weight.mul_(0.3)
        for name, parameter in model.named_parameters():
            if ".blocks." in name and parameter.dim() > 1:
                parameter.mul_(4.0)
        decoder.ln.weight.mul_(20.0)  # logits far apart: rounding never decides a token
    return model


def ending(model: Whisper, eot: int, strength: float = 72.0) -> Whisper:
    """Let texts of a lively Whisper end by themselves, now and then; the stronger, the sooner."""
    direction = torch.randn(32, generator=torch.Generator().manual_seed(3))
    direction /= direction.norm()
    with torch.no_grad():
        model.decoder.token_embedding.weight[eot] = 2.5 * direction
        model.decoder.ln.bias += strength * direction
    return model
