"""Read a file of whisper.cpp, in a process of its own: a bad one kills the process that reads it.

    python3 -m espnet_blora.export.ggml_reader MODEL WAVES.npz JOB.json TEXTS.json

WAVES.npz holds samples per utterance, in the order of the languages that the job names.
"""

import json
import sys
from pathlib import Path

import numpy as np


def read(model: str, waves: str, job: str, output: str) -> None:
    """Write the texts that whisper.cpp finds, greedily, without fallbacks."""
    from pywhispercpp.model import Model

    asked = json.loads(Path(job).read_text(encoding="utf-8"))
    reader = Model(
        model,
        redirect_whispercpp_logs_to=None,
        n_threads=asked["threads"],
        no_timestamps=True,
        single_segment=True,
        temperature_inc=0.0,
        no_speech_thold=1.0,
        print_progress=False,
        max_tokens=asked["limit"] - 1,
    )
    with np.load(waves) as samples:
        texts = [
            "".join(s.text for s in reader.transcribe(samples[f"arr_{i}"], language=language))
            for i, language in enumerate(asked["languages"])
        ]
    Path(output).write_text(json.dumps(texts), encoding="utf-8")


if __name__ == "__main__":
    read(*sys.argv[1:])
