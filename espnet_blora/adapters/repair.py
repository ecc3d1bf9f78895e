"""Repair of a trained update, without training: less change on old inputs, most of it on new ones.

For each Linear, with C_n and C_o the second moments of its input on new-domain and on old audio,
the repaired update is the minimum over D of

    tr((D - dW) C_n (D - dW)^T) + mu tr(D C_o D^T),   D = dW T,   T = I - mu C_o (C_n + mu C_o)^-1

(RegMean of the tuned and the base model, arXiv 2212.09849, with unequal weights). T acts from the
right, so the factors that the input meets first are multiplied by it: rank and method stay. mu = 0
changes nothing; C_n = C_o gives the scale 1 / (1 + mu). Both C have 1 % of their mean diagonal
added to the diagonal.

In V with V^T C_n V = I and V^T C_o V = diag(c) everything is diagonal, and one factorisation serves
every mu: T = V^-T diag(1 / (1 + mu c)) V^T, and with g_j = |column j of dW V^-T|^2

    tr(D C_o D^T) = sum_j g_j c_j / (1 + mu c_j)^2
    tr((D - dW) C_n (D - dW)^T) = sum_j g_j (mu c_j / (1 + mu c_j))^2

Of a fully fine-tuned model each Linear's dW = W - W0 becomes dW T. What else was trained is turned
down to 1 / (1 + mu): the same formula for a bias, whose input is always 1, and for convolutions,
normalisations and embeddings what it is where old and new inputs are alike.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from espnet_blora.adapters.layer import AdapterLayer
from espnet_blora.adapters.moments import Moments
from espnet_blora.adapters.sampling import softplus_sigma

RIDGE = 0.01
ALIKE = 0.9
"""Above this share of the scale's change of old outputs, a repair is not worth its moments."""


class Directions(NamedTuple):
    """V of one input, all in float64 on the CPU.

    Attributes:
        old: c, (d,): how much more old inputs lie along a direction than new ones.
        into: V^-T, (d, d).
        out: V^T, (d, d).
    """

    old: Tensor
    into: Tensor
    out: Tensor

    def lost(self, strength: float) -> Tensor:
        """Return mu c / (1 + mu c), (d,): the share of the update that a direction loses."""
        return strength * self.old / (1.0 + strength * self.old)

    def applied(self, factor: Tensor, strength: float) -> Tensor:
        """Return factor T, (k, d), as `factor` is."""
        wide = factor.detach().cpu().double()
        result = wide - ((wide @ self.into) * self.lost(strength)) @ self.out
        return result.to(factor)

    def squared(self, strength: float) -> Tensor:
        """Return the squares of the entries of T, (d, d)."""
        removed = (self.into * self.lost(strength)) @ self.out
        return (torch.eye(len(self.old), dtype=removed.dtype) - removed).square()


def directions(new: Tensor, old: Tensor) -> Directions:
    """Return `Directions` of C_n and C_o, (d, d) float64, with the ridge added to both."""
    new, old = (c + RIDGE * c.diagonal().mean() * torch.eye(len(c)).to(c) for c in (new, old))
    lower = torch.linalg.cholesky(new)  # C_n = L L^T
    inner = torch.linalg.solve_triangular(lower, old, upper=False)
    inner = torch.linalg.solve_triangular(lower, inner.T.contiguous(), upper=False)  # L^-1 C_o L^-T
    values, vectors = torch.linalg.eigh(0.5 * (inner + inner.T))
    out = torch.linalg.solve_triangular(lower.T, vectors, upper=True).T  # (L^-T U)^T
    return Directions(values.clamp_min(0.0), lower @ vectors, out)


class Change(NamedTuple):
    """What a repair is predicted to do: sums over Linears, each relative to its base's outputs.

    Attributes:
        strength: mu.
        old: E||D x||^2 on old inputs, over E||W0 x||^2.
        lost: E||(D - dW) x||^2 on new inputs, over that of dW: the share of what was learnt there.
        old_by_scale: `old` of the scale 1 - sqrt(lost), which loses the same share.
    """

    strength: float
    old: float
    lost: float
    old_by_scale: float


class Repair:
    """The repair of one adapter, at any strength.

    Attributes:
        old_audio: Seconds of audio that `keep` was made of.

    Args:
        method: Name of the method, for messages.
        layers: The adapter's layers by name.
        keep: Moments of old audio, heard by the base.
        new: Moments of new-domain audio, best heard by the adapted model.

    Raises:
        ValueError: The method's update cannot be multiplied from the right, the adapter is merged,
            or `keep` was not heard by the base.
    """

    def __init__(
        self, method: str, layers: Mapping[str, AdapterLayer], keep: Moments, new: Moments
    ) -> None:
        stuck = [name for name, layer in layers.items() if not layer.right_names]
        if stuck:
            raise ValueError(
                f"adapter '{method}' cannot be repaired: the update of {stuck[0]} has no factor of "
                "its own that the input meets first; repair a lora, blora or another low-rank "
                "method, or turn this one down (--adapter_scale)"
            )
        if any(layer.merged for layer in layers.values()):
            raise ValueError("the adapter is merged; call adapter.unmerge() before a repair")
        self.layers = layers
        self._find_directions(layers, keep, new)

    def _find_directions(self, names: Collection[str], keep: Moments, new: Moments) -> None:
        """Factorise the moments of these Linears' inputs, each once."""
        keep.check_base()
        self.old_audio = keep.seconds
        self._keys = {name: (keep.layers[name], new.layers[name]) for name in names}
        self._directions: dict[tuple[str, str], Directions] = {}
        for name, key in self._keys.items():
            if key not in self._directions:
                self._directions[key] = directions(new.matrix(name), keep.matrix(name))

    @torch.no_grad()
    def tensors(self, strength: float) -> dict[str, Tensor]:
        """Return {layer.factor: repaired value}; a posterior scale gets its exact marginal.

        With A' = A T the rows of A' are Gaussian with var'_ij = sum_k var_ik T_kj^2 (and
        correlated, which a scale per element does not say).
        """
        if strength == 0.0:
            return {}
        result = {}
        for name, layer in self.layers.items():
            found = self._directions[self._keys[name]]
            for factor in layer.right_names:
                value: Tensor = getattr(layer, factor)
                result[f"{name}.{factor}"] = found.applied(value, strength)
            rho = getattr(layer, "rho_A", None)
            if rho is not None:
                variance = softplus_sigma(rho).cpu().double().square() @ found.squared(strength)
                result[f"{name}.rho_A"] = variance.sqrt().expm1().log().to(rho)
        return result

    def _owned(self) -> dict[str, Tensor]:
        """Return what `tensors` has values of, as the model holds it."""
        return {f"{n}.{f}": t for n, la in self.layers.items() for f, t in la.factors().items()}

    def _updates(self) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
        """Yield each Linear's name, its dW and its W0."""
        for name, layer in self.layers.items():
            yield name, (layer.delta_weight(), layer.weight)

    @contextmanager
    def applied(self, strength: float) -> Iterator[None]:
        """Let the layers compute with repaired factors inside this context."""
        owned, values = self._owned(), self.tensors(strength)
        before = {name: owned[name].detach().clone() for name in values}
        try:
            with torch.no_grad():
                for name, value in values.items():
                    owned[name].copy_(value)
            yield
        finally:
            with torch.no_grad():
                for name, value in before.items():
                    owned[name].copy_(value)

    @torch.no_grad()
    def curve(self, strengths: Iterable[float]) -> list[Change]:
        """Return what each strength is predicted to do, without any decoding."""
        rows = []
        for name, matrices in self._updates():
            found = self._directions[self._keys[name]]
            update, base = (
                (matrix.detach().cpu().double() @ found.into).square().sum(0) for matrix in matrices
            )  # (d,) each
            rows.append((found, update / (base @ found.old), update / base.sum()))
        changes = []
        whole = float(sum(new.sum() for _, _, new in rows))
        for strength in strengths:
            old = lost = 0.0
            for found, by_old, by_new in rows:
                gone = found.lost(strength)
                old += float((by_old * found.old * (1.0 - gone).square()).sum())
                lost += float((by_new * gone.square()).sum())
            share = lost / whole if whole else 0.0
            changes.append((strength, old, share))
        trained = sum(float((by_old * found.old).sum()) for found, by_old, _ in rows)
        return [
            Change(strength, old, share, trained * (1.0 - share**0.5) ** 2)
            for strength, old, share in changes
        ]


class FullRepair(Repair):
    """The repair of a fully fine-tuned model.

    Args:
        weights: {name: parameter} of the model.
        base: What they were before training.
        linears: The names of the Linears.
        keep: As of `Repair`.
        new: As of `Repair`.

    Raises:
        ValueError: `base` lacks a parameter, or did not hear `keep`.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        base: Mapping[str, Tensor],
        linears: Collection[str],
        keep: Moments,
        new: Moments,
    ) -> None:
        missing = [name for name in weights if name not in base]
        if missing:
            raise ValueError(
                f"the base lacks {len(missing)} of this model's parameters, first {missing[0]}: "
                "give the base that it was trained from"
            )
        self.weights, self.base = weights, base
        self._find_directions(linears, keep, new)

    @torch.no_grad()
    def tensors(self, strength: float) -> dict[str, Tensor]:
        """Return {name: repaired value} of every parameter."""
        if strength == 0.0:
            return {}
        result = {}
        for name, weight in self.weights.items():
            before = self.base[name].to(weight)
            linear = name.removesuffix(".weight")
            if linear in self._keys:
                found = self._directions[self._keys[linear]]
                result[name] = before + found.applied(weight - before, strength)
            else:
                result[name] = before + (weight - before) / (1.0 + strength)
        return result

    def _owned(self) -> dict[str, Tensor]:
        return dict(self.weights)

    def _updates(self) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
        for linear in self._keys:
            weight = self.weights[f"{linear}.weight"]
            before = self.base[f"{linear}.weight"].to(weight)
            yield linear, (weight - before, before)


def alike(curve: Iterable[Change]) -> bool:
    """Return whether no strength that keeps three quarters of what was learnt beats the scale."""
    gains = [
        row.old / row.old_by_scale for row in curve if row.old_by_scale and 0.0 < row.lost <= 0.25
    ]
    return bool(gains) and min(gains) > ALIKE
