"""whisper.cpp's file, in half precision: of the two precisions the one that whisper.cpp can run.

Layout (whisper.cpp, `models/convert-pt-to-ggml.py`): magic and 11 dimensions; the mel filters; the
text tokens, by rank; then each tensor under openai-whisper's name, its sizes in reverse order. All
numbers are little-endian and of 32 bits. Control tokens are counted up by the reader.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import IO

import torch
from torch import Tensor
from whisper.audio import mel_filters
from whisper.model import Whisper

from espnet_blora.whisper.vocabulary import Vocabulary

MODEL = "ggml-model.bin"
MAGIC = struct.pack("<i", 0x67676D6C)
HALF = 1  # the file's and a tensor's type; 0 is fp32
README = """\
# A Whisper for whisper.cpp, in half precision

    whisper-cli -m ggml-model.bin -l en talk.wav

    from pywhispercpp.model import Model
    print(Model("ggml-model.bin", language="en").transcribe("talk.wav"))
"""


def write_ggml(model: Whisper, folder: Path) -> None:
    """Write the model file, and how to use it.

    Args:
        model: Of `openai.assemble`.
        folder: Is there.

    Raises:
        OSError: It cannot be written.
    """
    dims = model.dims
    encoding = Vocabulary.of(dims.n_vocab).tokenizer.encoding
    tokens = [encoding.decode_single_token_bytes(index) for index in range(encoding.eot_token)]
    with (folder / MODEL).open("wb") as file:
        file.write(MAGIC)
        _integers(
            file,
            *(dims.n_vocab, dims.n_audio_ctx, dims.n_audio_state, dims.n_audio_head),
            *(dims.n_audio_layer, dims.n_text_ctx, dims.n_text_state, dims.n_text_head),
            *(dims.n_text_layer, dims.n_mels, HALF),
        )
        filters = mel_filters("cpu", dims.n_mels)  # (n_mels, 201)
        _integers(file, *filters.shape)
        file.write(filters.float().numpy().tobytes())
        _integers(file, len(tokens))
        for token in tokens:
            _integers(file, len(token))
            file.write(token)
        for name, tensor in model.state_dict().items():
            _write_tensor(file, name, tensor)
    (folder / "README.md").write_text(README, encoding="utf-8")


def _write_tensor(file: IO[bytes], name: str, tensor: Tensor) -> None:
    """Write one tensor: matrices and convolutions in half precision, all else in single."""
    half = tensor.dim() > 1 and not name.endswith("positional_embedding")
    if name in ("encoder.conv1.bias", "encoder.conv2.bias"):
        tensor = tensor[:, None]  # (n, 1), to be added to (n, frames)
    data = tensor.detach().cpu().to(torch.float16 if half else torch.float32).contiguous()
    raw = name.encode()
    _integers(file, data.dim(), len(raw), HALF if half else 0, *reversed(data.shape))
    file.write(raw)
    file.write(data.numpy().tobytes())


def _integers(file: IO[bytes], *values: int) -> None:
    file.write(struct.pack(f"<{len(values)}i", *values))
