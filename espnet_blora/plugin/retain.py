"""What the base says of old audio, as a term of the loss."""

from torch import Tensor
from torch.nn.functional import kl_div

KINDS = ("distillation", "replay")


def distillation(logits: Tensor, base: Tensor) -> Tensor:
    """Return KL(base || model) per token in nats, 0-dim (Li and Hoiem 2016, arXiv 1606.09282).

    Args:
        logits: (N, V) of the model in training.
        base: (N, V) of its base, on the same audio and the same texts; no gradient.
    """
    said, known = logits.float().log_softmax(-1), base.float().log_softmax(-1)
    return kl_div(said, known, reduction="batchmean", log_target=True)
