"""Second moments of what Linears are given: what the audio that is to be kept looks like inside.

C = E[x x^T] of a Linear's input x (d,), over positions of some audio. The change that an update
makes to the Linear's output on that audio is E||dW x||^2 = tr(dW C dW^T), so C is all that a
penalty, a prior or a repair has to know of old audio (arXiv 2212.09849 merges models by it). What
reads the same input (query, key and value of one attention) shares one C.

While audio is being heard the sums of x x^T stand in one file, in float64: sums of several parts of
the audio add up. What is used afterwards is C = V^T V + diag(rest): V (k, d) has all eigenpairs
where d <= 512, else the 256 leading ones, and the rest is that of the diagonal.
"""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from espnet_blora.adapters import fingerprint as fp
from espnet_blora.adapters.files import open_tensors, write_tensors

log = logging.getLogger(__name__)

METADATA_KEY = "espnet_blora_moments"
SUMS_KEY = "espnet_blora_moment_sums"
REMEDY = "make it with espnet-blora moments"
RANK = 256
IN_TRAINING = 64
"""Eigenpairs of C that training uses; the rest of the diagonal is exact."""
DENSE = 512
LITTLE = 60.0
"""Seconds of audio below which there is a warning."""
_NEEDED = {"layers", "positions", "base", "made"}
_LARGEST = 6e4  # what float16 holds
_SPARE = 16  # directions beside those wanted, and rounds, of the iteration for leading eigenpairs
_ROUNDS = 6


@dataclass
class Sums:
    """Sums of x x^T that grow with the audio heard.

    Attributes:
        layers: Linear -> the name of its input.
        base: Weight name -> row of the base's fingerprint.
        made: How it was made, such as the padding: two sums add up where this is the same.
        sums: Name of an input -> sum of x x^T, (d, d) float64 on the CPU.
        positions: Name of an input -> how many x.
        heard: Utterance -> its seconds.
        left_out: Pieces of audio that were heard and do not count.
    """

    layers: dict[str, str]
    base: dict[str, list[float]]
    made: dict[str, Any]
    sums: dict[str, Tensor] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)
    heard: dict[str, float] = field(default_factory=dict)
    left_out: int = 0

    def add(self, name: str, product: Tensor, count: int) -> None:
        """Add the sum of x x^T over `count` positions of the input `name`, (d, d).

        Raises:
            ValueError: It holds NaN or inf.
        """
        if not bool(torch.isfinite(product).all()):
            raise ValueError(
                f"the input {name} holds NaN or inf; check the checkpoint, and compute in float32"
            )
        if name not in self.sums:
            self.sums[name] = torch.zeros(product.shape, dtype=torch.float64)
            self.positions[name] = 0
        self.sums[name] += product.double().cpu()
        self.positions[name] += count

    def merge(self, other: "Sums") -> None:
        """Add what other audio has given.

        Raises:
            ValueError: It was made otherwise, from another base, of other Linears, or from some of
                the same audio.
        """
        differences = [
            f"{key} {other.made.get(key)!r} and {self.made.get(key)!r}"
            for key in sorted(self.made.keys() | other.made.keys())
            if self.made.get(key) != other.made.get(key)
        ]
        if self.layers != other.layers:
            differences.append(f"{len(other.layers)} and {len(self.layers)} Linears")
        elif float((_rows(self) - _rows(other)).norm() / _rows(self).norm()) > fp.TOLERANCE:
            differences.append("another base")
        if differences:
            raise ValueError(f"these sums do not add up: {'; '.join(differences)}")
        twice = sorted(self.heard.keys() & other.heard.keys())
        if twice:
            raise ValueError(f"{len(twice)} utterances are in both sums, first {twice[0]}")
        for name, product in other.sums.items():
            self.add(name, product, other.positions[name])
        self.heard.update(other.heard)
        self.left_out += other.left_out

    def save(self, path: str | Path) -> int:
        """Write everything, whole or not at all; return the size in bytes."""
        more = {"heard": self.heard, "left_out": self.left_out}
        return write_tensors(path, self.sums, SUMS_KEY, {**self._description(), **more})

    def export(self, path: str | Path, about: Mapping[str, Any], rank: int = RANK) -> int:
        """Write C of every input; return the size in bytes.

        Args:
            path: The file.
            about: Plain values kept beside, such as the audio's name.
            rank: Leading eigenpairs of an input wider than 512.

        Raises:
            ValueError: Nothing was heard.
        """
        if not self.heard or not any(self.positions.values()):
            raise ValueError(
                f"{path}: no speech was heard ({self.left_out} pieces gave no text that ends), so "
                "there are no moments to write; is this speech, of what the model knows?"
            )
        warn_of_little(path, sum(self.heard.values()))
        if self.left_out > len(self.heard):
            log.warning(
                "%s: %d pieces gave no text that ends, and are left out: is this speech, in a "
                "language that the model knows?",
                path, self.left_out,
            )  # fmt: skip
        tensors: dict[str, Tensor] = {}
        for name, total in self.sums.items():
            whole = len(total) <= DENSE
            factor, rest = low_rank(total / self.positions[name], len(total) if whole else rank)
            half = not whole and float(factor.abs().max()) < _LARGEST
            tensors[f"{name}.factor"] = factor.to(torch.float16 if half else torch.float32)
            tensors[f"{name}.rest"] = rest.float()
        heard = {"utterances": len(self.heard), "seconds": sum(self.heard.values())}
        description = {**self._description(), **heard, "left_out": self.left_out}
        return write_tensors(path, tensors, METADATA_KEY, {**description, "about": dict(about)})

    def _description(self) -> dict[str, Any]:
        return {
            "layers": self.layers,
            "positions": self.positions,
            "base": self.base,
            "made": self.made,
        }


def warn_of_little(path: str | Path, seconds: float) -> None:
    """Warn where the moments in a file are of less than a minute of audio."""
    if seconds < LITTLE:
        log.warning(
            "%s: %.1f min were heard; give some minutes of it, of every language and kind",
            path, seconds / 60,
        )  # fmt: skip


def _rows(sums: Sums) -> Tensor:
    rows = [sums.base[name] for name in sorted(sums.base)]
    return torch.tensor(rows, dtype=torch.float64)


def read_sums(path: str | Path) -> Sums:
    """Read what `Sums.save` has written.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is damaged or not such a file.
    """
    needed = {*_NEEDED, "heard", "left_out"}
    with open_tensors(Path(path), SUMS_KEY, needed, "file of sums", REMEDY) as (file, about):
        sums = {name: file.get_tensor(name) for name in about["positions"]}
    return Sums(
        about["layers"], about["base"], about["made"], sums, about["positions"], about["heard"],
        about["left_out"],
    )  # fmt: skip


def low_rank(moment: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return V (k, d) and rest (d,) of C = V^T V + diag(rest) + (what is left out), k <= rank.

    V holds the leading eigenvectors times the roots of their eigenvalues, the largest first; the
    diagonal of C is exact. Where d is large, they come from subspace iteration (Halko et al. 2011,
    arXiv 0909.4061, algorithm 4.4), started from fixed numbers.

    Args:
        moment: C, (d, d) float64, symmetric.
        rank: How many eigenpairs.
    """
    width = len(moment)
    if width <= 4 * rank:
        values, vectors = torch.linalg.eigh(moment)
    else:
        generator = torch.Generator().manual_seed(0)
        basis = torch.randn(width, rank + _SPARE, generator=generator, dtype=moment.dtype)
        for _ in range(_ROUNDS):
            basis = torch.linalg.qr(moment @ basis).Q
        values, inner = torch.linalg.eigh(basis.T @ moment @ basis)
        vectors = basis @ inner
    factor = (vectors * values.clamp_min(0.0).sqrt()).T.flip(0)[:rank].contiguous()  # (k, d)
    rest = (moment.diagonal() - factor.square().sum(0)).clamp_min(0.0)
    return factor, rest


@dataclass(frozen=True)
class Moments:
    """Moments in a file, which is read one matrix at a time.

    Attributes:
        path: The file.
        layers: Linear -> the name of its input.
        positions: Name of an input -> positions that C is the mean over.
        made: How it was made: `pad_to`, and `through` (the `base`, or the `adapted` model).
        seconds: Of the audio.
    """

    path: Path
    layers: dict[str, str]
    positions: dict[str, int]
    made: dict[str, Any]
    seconds: float

    def check_base(self) -> None:
        """Check that these are moments of what the base hears, so of what is to be kept.

        Raises:
            ValueError: Another model has heard.
        """
        if self.made.get("through") != "base":
            raise ValueError(
                f"{self.path} was heard by the {self.made.get('through')} model; what is to be "
                "kept is what the base hears: make it without --adapted"
            )

    def matrix(self, layer: str) -> Tensor:
        """Return C of a Linear's input, (d, d) float64 on the CPU."""
        factor, rest = self._tensors(layer)
        return factor.T @ factor + rest.diag()

    def low_rank(self, layer: str, rank: int) -> tuple[Tensor, Tensor]:
        """Return V (k, d), k <= rank, and the rest of the diagonal (d,) of a Linear's C, float64.

        The file's own are cut down further; nothing is factorised.
        """
        factor, rest = self._tensors(layer)
        return factor[:rank], rest + factor[rank:].square().sum(0)

    def _tensors(self, layer: str) -> tuple[Tensor, Tensor]:
        """Return V and rest as the file has them, in float64.

        Raises:
            ValueError: They hold NaN or inf.
        """
        name = self.layers[layer]
        with _opened(self.path, compare=False) as (file, _):
            parts = [file.get_tensor(f"{name}.{part}").double() for part in ("factor", "rest")]
        if not all(bool(torch.isfinite(part).all()) for part in parts):
            raise ValueError(f"{self.path}: {name} holds NaN or inf; {REMEDY}")
        return parts[0], parts[1]


class Kept(NamedTuple):
    """C of one Linear's input as training uses it, on the Linear's device.

    Attributes:
        factor: V, (k, d).
        rest: (d,), with C = V^T V + diag(rest).
        output: tr(W0 C W0^T), the base's mean squared output: 0-dim.
    """

    factor: Tensor
    rest: Tensor
    output: Tensor

    def form(self, down: Tensor) -> Tensor:
        """Return A C A^T, (r, r), for A (r, d)."""
        low = down @ self.factor.T.to(down)  # (r, k)
        return low @ low.T + (down * self.rest.to(down)) @ down.T


def kept_moments(
    path: str | Path, model: torch.nn.Module, linears: Mapping[str, torch.nn.Linear]
) -> dict[str, Kept]:
    """Return what training on `linears` of `model` needs of a file of moments heard by the base.

    The padding is that which a module of the model has as `pad_to`, if one has.

    Raises:
        FileNotFoundError: The file is not there.
        ValueError: As of `read_moments`, or it was not the base that heard.
    """
    padding = (getattr(module, "pad_to", None) for module in model.modules())
    pad_to = next((value for value in padding if isinstance(value, str)), None)
    found = read_moments(path, dict(model.named_parameters()), linears, pad_to)
    found.check_base()
    kept = {}
    for name, linear in linears.items():
        factor, rest = (part.to(linear.weight.device) for part in found.low_rank(name, IN_TRAINING))
        weight = linear.weight.detach().double()
        output = (weight @ factor.T).square().sum() + (weight.square() @ rest).sum()
        kept[name] = Kept(factor.float(), rest.float(), output.float())
    log.info("moments of %d Linears from %s: %.0f s of audio", len(kept), path, found.seconds)
    return kept


def _opened(path: Path, compare: bool) -> Any:
    return open_tensors(path, METADATA_KEY, _NEEDED, "file of moments", REMEDY, compare)


def read_moments(
    path: str | Path,
    weights: Mapping[str, Tensor],
    layers: Collection[str],
    pad_to: str | None = None,
) -> Moments:
    """Open a file of `Sums.export` for these Linears, checked.

    Args:
        path: The file.
        weights: {name: parameter} of the whole model, to compare the base with the file's.
        layers: The names of the Linears.
        pad_to: How the model pads its audio; moments of another padding are of other inputs.

    Raises:
        FileNotFoundError: The file is not there.
        ValueError: It is damaged or not such a file, of another base or padding, or lacks a Linear.
    """
    path = Path(path)
    with _opened(path, compare=True) as (_, about):
        fp.check_same_base(path, about["base"], weights, REMEDY)
        made = about["made"].get("pad_to")
        if pad_to is not None and made != pad_to:
            raise ValueError(
                f"{path} is of audio padded to {made!r}, this model pads to {pad_to!r}; {REMEDY}, "
                "from this model's base"
            )
        missing = [name for name in layers if name not in about["layers"]]
        if missing:
            raise ValueError(
                f"{path} lacks {len(missing)} of {len(layers)} Linears, such as {missing[0]}; "
                "make it again with --target_modules as in adapter_conf"
            )
    return Moments(path, about["layers"], about["positions"], about["made"], about["seconds"])


def new_sums(
    weights: Mapping[str, Tensor], layers: Mapping[str, str], made: Mapping[str, Any]
) -> Sums:
    """Return empty sums for the Linears `layers` (Linear -> its input) of a base.

    Args:
        weights: {name: weight} of the base.
        layers: Linear -> the name of its input.
        made: As of `Sums`.

    Raises:
        ValueError: The base is on the meta device.
    """
    names = [f"{layer}.weight" for layer in layers]
    rows = fp.fingerprint(weights[name] for name in names)
    if rows is None:
        raise ValueError("the model is on the meta device and has no values")
    base = {name: row.tolist() for name, row in zip(names, rows, strict=True)}
    return Sums(dict(layers), base, dict(made))
