"""What HF's Trainer gets in benchmarks/train.py is what ours trains on."""

import numpy as np
import torch

from benchmarks.peers.trainers import collate

EOT = 9


def test_hf_reads_the_prompt_and_is_trained_on_the_text_and_its_end():
    features = np.zeros((2, 3), np.float32)
    rows = [
        {"ids": [1, 2, 3, 4, 50, 51], "prompt": 4, "input_features": features},
        {"ids": [1, 2, 3, 4, 60], "prompt": 4, "input_features": features + 1},
    ]
    batch = collate(rows, EOT)
    no = -100
    assert batch["decoder_input_ids"].tolist() == [[1, 2, 3, 4, 50, 51], [1, 2, 3, 4, 60, EOT]]
    assert batch["labels"].tolist() == [[no] * 3 + [50, 51, EOT], [no] * 3 + [60, EOT, no]]
    assert batch["input_features"].shape == (2, 2, 3) and batch["input_features"][1].eq(1).all()
    assert batch["labels"].dtype == torch.int64
