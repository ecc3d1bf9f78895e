"""Random but lively Whispers: what they say depends on the audio, the language and the prefix."""

import torch
from whisper.model import ModelDimensions, Whisper


def lively(n_text_ctx: int = 448, n_vocab: int = 51865, seed: int = 0) -> Whisper:
    """A random Whisper of width 32 that does not merely echo its last token.

    The output projection is the input embedding, so with plain random weights the residual
    connection makes every model repeat itself; large layers and a small embedding prevent that.
    """
    torch.manual_seed(seed)
    model = Whisper(ModelDimensions(80, 1500, 32, 2, 2, n_vocab, n_text_ctx, 32, 2, 2))
    decoder = model.decoder
    with torch.no_grad():
        decoder.positional_embedding.normal_(std=0.3)
        decoder.token_embedding.weight.mul_(0.3)
        for name, parameter in model.named_parameters():
            if ".blocks." in name and parameter.dim() > 1:
                parameter.mul_(4.0)
        decoder.ln.weight.mul_(20.0)  # logits far apart: rounding never decides a token
    return model.eval()


def ending(model: Whisper, eot: int, strength: float = 72.0) -> Whisper:
    """Let texts of a lively Whisper end by themselves, now and then; the stronger, the sooner."""
    direction = torch.randn(32, generator=torch.Generator().manual_seed(3))
    direction /= direction.norm()
    with torch.no_grad():
        model.decoder.token_embedding.weight[eot] = 2.5 * direction
        model.decoder.ln.bias += strength * direction
    return model
