"""Bases taken from the base weights: singular vectors, and how all ranks come to the same ones."""

import logging
import time
from collections.abc import Mapping

import torch
from torch import Tensor

from espnet_blora.adapters.layer import AdapterLayer

logger = logging.getLogger(__name__)


def svd(weight: Tensor, full: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Return U (m, k), S (k,), Vh (k, n) with weight = U diag(S) Vh, S descending, k = min(m, n).

    At least fp32. Of each pair of vectors the sign is such that the entry of the right one that is
    largest in size is positive; vectors of equal singular values are still any basis of their
    space, so that another machine may find others: store them. With `full`, Vh is (n, n): the rows
    beyond k span the null space.

    Raises ValueError when the weight holds NaN or inf.
    """
    if not bool(torch.isfinite(weight).all()):
        raise ValueError(
            "the base weight holds NaN or inf, so it has no singular vectors; load a sound base"
        )
    wide = weight if weight.dtype == torch.float64 else weight.float()
    u, s, vh = torch.linalg.svd(wide, full_matrices=full)
    count = s.numel()
    signs = vh.gather(1, vh.abs().argmax(dim=1, keepdim=True)).sign()
    return u[:, :count] * signs[:count].T, s, vh * signs


def prepare_layers(layers: Mapping[str, AdapterLayer]) -> None:
    """Compute the bases that are missing; under torch.distributed, rank 0's, on all ranks.

    Singular vectors differ between machines in sign and more, and what is trained on one basis
    means nothing on another. Layers on the meta device are left alone.

    Raises ValueError, naming the layer, when a weight holds NaN or inf.
    """
    based = {n: la for n, la in layers.items() if la.basis_names and not la.weight.is_meta}
    distributed = torch.distributed
    together = (
        distributed.is_available()
        and distributed.is_initialized()
        and distributed.get_world_size() > 1
    )
    started, computed = time.monotonic(), 0
    if not together or distributed.get_rank() == 0:
        for name, layer in based.items():
            try:
                computed += layer.prepare()
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
    if together:
        with torch.no_grad():
            for layer in based.values():
                for name in (*layer.basis_names, "basis_ready"):
                    distributed.broadcast(getattr(layer, name).detach(), 0)
                layer.read_ready()
    if computed:
        seconds = time.monotonic() - started
        logger.info("computed the bases of %d Linears in %.1f s", computed, seconds)
