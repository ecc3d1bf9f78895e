"""Adapter layers: the base Linear as it was, and one place that forms the update.

A layer is the model's own nn.Linear (or subclass) object with its class extended in place:
`weight` and `bias` keep their names, other references to the module stay valid, and the base
forward is the one of its own class, so a Linear that casts its weight goes on casting.

Merged, forward reads W0 + delta, which stands beside `weight`: that is never written, so unmerging
is exact, merging twice is merging once, and a state dict saved in merged state holds the base and
the factors as always. It costs one more copy of each target weight.
"""

import functools
import logging
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn

from espnet_blora.adapters.context import Context, processes

log = logging.getLogger(__name__)
_REGISTERED = ("_parameters", "_buffers", "_modules")  # what torch keeps by name in a module


def wide(tensor: Tensor) -> Tensor:
    """Return `tensor` in fp32, or as it is in fp64."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def full_precision(tensor: Tensor) -> AbstractContextManager:
    """Return a context without autocast on `tensor`'s device; the meta device knows no autocast."""
    kind = tensor.device.type
    return nullcontext() if kind == "meta" else torch.autocast(kind, enabled=False)


class AdapterLayer(nn.Linear):
    """A Linear with an update: y = base(x) + scaling * factor * update(x).

    x: (..., d_in); y: (..., d_out). The forward is always factored; nothing in here writes to
    `weight`. In merged state the sum W0 + delta is kept beside `weight` and used instead of it.

    What trains is a parameter, what is frozen a buffer: all of it is in the state dict, and there
    is nothing else to save. Tensors computed from the base weight (bases) are declared in `start`
    with `declare_bases` and come from `compute_basis`: not at injection, when the base may not be
    loaded yet, but before the first forward, and never again once they are loaded or computed.

    Attributes:
        base_class: Class of the Linear before it was extended.
        base_names: Names in the state dict of that Linear.
        base_attributes: Names of its attributes; of its parameters, buffers and modules, too.
        parameter_names: All components that a key of this class can end in, whatever the options.
        mean_names: Those whose values are averaged over checkpoints; all others are the best one's.
        right_names: Those, (k, d_in) each, that the input meets first: all of them times T, from
            the right, is the update times T. Empty where a method has none.
        reads_weight: Whether the update computes with the base weight in each step.
        basis_names: Tensors that `compute_basis` fills.
        ready: Whether they are filled.
        merged_weight: W0 + delta, (d_out, d_in), or None when not merged.
    """

    base_class: type[nn.Linear]
    base_names: frozenset[str]
    base_attributes: frozenset[str]
    parameter_names: tuple[str, ...] = ()
    mean_names: tuple[str, ...] = ()
    right_names: tuple[str, ...] = ()
    reads_weight: bool = False
    basis_names: tuple[str, ...] = ()
    basis_ready: Tensor
    ready: bool = True

    rank: int
    scaling: float
    dropout_rate: float
    context: Context
    index: int
    merged_weight: Tensor | None

    def start(self, config: Any, context: Context, index: int) -> None:
        """Turn the Linear into a fresh layer; subclasses add their factors.

        Args:
            config: The options of this layer.
            context: What the layers of one adapter share.
            index: Position of this layer among them.
        """
        self.rank = config.rank
        self.scaling = config.scaling
        self.dropout_rate = config.dropout_rate
        self.context = context
        self.index = index
        self.register_buffer("merged_weight", None, persistent=False)

    def new_kind(self) -> dict[str, Any]:
        """Return device and dtype of a new factor: fp32, or fp64 on an fp64 base."""
        is_double = self.weight.dtype == torch.float64
        dtype = torch.float64 if is_double else torch.float32
        return {"device": self.weight.device, "dtype": dtype}

    def factors(self) -> dict[str, Tensor]:
        """Return what the adapter added to this Linear's state dict, trained or frozen, by name."""
        state = self.state_dict(keep_vars=True)
        return {name: tensor for name, tensor in state.items() if name not in self.base_names}

    # ---- bases ----

    def declare_bases(self, *names: str) -> None:
        """Say which tensors (buffers; parameters that go on training) `compute_basis` fills."""
        self.basis_names = names
        self.ready = False
        flag = torch.zeros((), dtype=torch.uint8, device=self.weight.device)
        self.register_buffer("basis_ready", flag)

    def compute_basis(self, weight: Tensor) -> dict[str, Tensor]:
        """Return {basis name: value} from the base weight (d_out, d_in)."""
        raise TypeError(f"{type(self).__name__} computes no basis")

    @torch.no_grad()
    def prepare(self) -> bool:
        """Compute the bases from the weight as it is now; return whether there was any to compute.

        Raises:
            ValueError: They cannot be computed (NaN in the weight).
        """
        if self.ready or self.weight.is_meta:
            return False
        with full_precision(self.weight):
            values = self.compute_basis(self.weight.detach())
        for name in self.basis_names:
            getattr(self, name).copy_(values[name])
        self.basis_ready.fill_(1)
        self.ready = True
        return True

    def read_ready(self) -> None:
        """Take over what a load has put into `basis_ready`."""
        if self.basis_names and not self.basis_ready.is_meta:
            self.ready = bool(self.basis_ready)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._mark()  # `assign=True` puts new parameters in
        self.read_ready()

    # ---- the update ----

    def update(self, x: Tensor) -> Tensor:
        """Return the unscaled update of the output, (..., d_in) -> (..., d_out)."""
        raise TypeError(f"{type(self).__name__} defines no update")

    def delta_weight(self) -> Tensor:
        """Return factor * scaling * (the mean update of the weight), (d_out, d_in).

        The only place that forms it: merging, export, statistics and plots all read it here.
        """
        raise TypeError(f"{type(self).__name__} defines no delta_weight")

    @property
    def merged(self) -> bool:
        """Whether the update is in the weight used by forward."""
        return self.merged_weight is not None

    def forward(self, x: Tensor) -> Tensor:
        """Return base(x) + scaling * factor * update(x), or the merged weight's output."""
        context = self.context
        if context.called is not None:
            context.called.add(self.index)
        if context.disabled:
            return super().forward(x)
        if self.merged_weight is not None:
            return self._merged_forward(x)
        if not self.ready:
            self.prepare()
        base = super().forward(x)
        scale = self.scaling * context.factor
        if scale == 0.0:
            return base
        return torch.add(base, self.update(x).to(base.dtype), alpha=scale)

    def _merged_forward(self, x: Tensor) -> Tensor:
        if self.training or self.context.draws is not None:
            raise ValueError(
                "the adapter is merged: neither training nor sampling sees its factors; "
                "call adapter.unmerge() first, or model.eval()"
            )
        # A view of this module under its base class that reads the merged weight: `weight` itself
        # is never touched, so two threads may run this at once.
        view = self.base_class.__new__(self.base_class)
        view.__dict__.update(self.__dict__)
        view.__dict__["_parameters"] = {"weight": self.merged_weight, "bias": self.bias}
        return self.base_class.forward(view, x)

    def _dropout(self, x: Tensor) -> Tensor:
        if self.training and self.dropout_rate > 0.0:
            return nn.functional.dropout(x, self.dropout_rate, training=True)
        return x

    # ---- torch's own ways with modules ----

    def _mark(self) -> None:
        """Put back the flags that torch drops from copied parameters."""

    def _apply(self, fn, recurse: bool = True):
        """Convert as torch does, but keep the factors (and their gradients) in fp32 at least.

        In bf16, AdamW's steps of 1e-3 are below the resolution of rho = -5, which never moves then.
        """
        kept = {id(t) for factor in self.factors().values() for t in (factor, factor.grad)}

        def keep_wide(tensor: Tensor) -> Tensor:
            result = fn(tensor)
            narrow = result.is_floating_point() and result.element_size() < 4
            if id(tensor) in kept and narrow and tensor.element_size() >= 4:
                return tensor.to(result.device, torch.float32)
            return result

        result = super()._apply(keep_wide, recurse)
        self._mark()
        return result

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        self._mark()

    def __reduce__(self) -> tuple:
        layer_class = type(self).__mro__[1]
        return _empty_layer, (layer_class, self.base_class), self.__dict__

    def extra_repr(self) -> str:
        """Show rank and scaling in the model's repr."""
        return f"{super().extra_repr()}, rank={self.rank}, scaling={self.scaling:g}"


@functools.cache
def extended_class(
    layer_class: type[AdapterLayer], base_class: type[nn.Linear]
) -> type[AdapterLayer]:
    """Return the class of a `base_class` Linear that carries the adapter `layer_class`."""
    body = {"base_class": base_class, "__module__": layer_class.__module__}
    return type(layer_class.__name__, (layer_class, base_class), body)


def _empty_layer(layer_class: type[AdapterLayer], base_class: type[nn.Linear]) -> AdapterLayer:
    """Return an uninitialised layer for copy and pickle, which cannot name made-up classes."""
    cls = extended_class(layer_class, base_class)  # type: ignore[arg-type]  # classes are hashable
    return cls.__new__(cls)


def extend(
    linear: nn.Linear, layer_class: type[AdapterLayer], config: Any, context: Context, index: int
) -> AdapterLayer:
    """Turn `linear` itself into an adapter layer and return it; see `AdapterLayer.start`."""
    base_names = frozenset(linear.state_dict(keep_vars=True))
    own = linear.__dict__
    base_attributes = frozenset({*own, *(name for kind in _REGISTERED for name in own[kind])})
    linear.__class__ = extended_class(layer_class, type(linear))  # type: ignore[arg-type]  # as above
    layer = cast(AdapterLayer, linear)
    layer.base_names, layer.base_attributes = base_names, base_attributes
    layer.start(config, context, index)
    return layer


def take_off(linear: AdapterLayer) -> AdapterLayer:
    """Make an adapter layer the Linear that it was; return the layer as an object of its own.

    Both share the base weight. `put_on` is the way back.
    """
    layer = type(linear).__new__(type(linear))
    layer.__dict__.update(linear.__dict__)
    names = layer.base_attributes
    plain = {key: value for key, value in layer.__dict__.items() if key in names}
    for kind in _REGISTERED:
        plain[kind] = {name: value for name, value in plain[kind].items() if name in names}
    plain["_non_persistent_buffers_set"] = plain["_non_persistent_buffers_set"] & names
    linear.__class__ = layer.base_class  # type: ignore[assignment]
    linear.__dict__.clear()
    linear.__dict__.update(plain)
    return layer


def put_on(linear: nn.Module, layer: AdapterLayer) -> AdapterLayer:
    """Make `linear` the layer that was taken off it, on the device of its weight; return it.

    Weight, bias, mode and hooks are the Linear's as they are now.
    """
    own, now = dict(layer.__dict__), linear.__dict__
    kept = {kind: {**own[kind], **now[kind]} for kind in _REGISTERED}
    kept["_non_persistent_buffers_set"] = now["_non_persistent_buffers_set"] | {"merged_weight"}
    own |= {key: value for key, value in now.items() if key in layer.base_attributes} | kept
    linear.__class__ = type(layer)
    linear.__dict__.clear()
    linear.__dict__.update(own)
    result = cast(AdapterLayer, linear)
    if any(factor.device != result.weight.device for factor in result.factors().values()):
        result.to(result.weight.device)
    return result


def prepare_layers(layers: Mapping[str, AdapterLayer]) -> None:
    """Compute the bases that are missing; under torch.distributed, rank 0's, on all ranks.

    Singular vectors differ between machines in sign and more, and what is trained on one basis
    means nothing on another. Layers on the meta device are left alone.

    Raises:
        ValueError: A weight holds NaN or inf; names the layer.
    """
    based = {n: la for n, la in layers.items() if la.basis_names and not la.weight.is_meta}
    rank, ranks = processes()
    start, computed = time.monotonic(), 0
    if rank == 0:
        for name, layer in based.items():
            try:
                computed += layer.prepare()
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
    if ranks > 1:
        with torch.no_grad():
            for layer in based.values():
                for name in (*layer.basis_names, "basis_ready"):
                    torch.distributed.broadcast(getattr(layer, name).detach(), 0)
                layer.read_ready()
    if computed:
        log.info("computed the bases of %d Linears in %.1f s", computed, time.monotonic() - start)


# ---- merging ----


def as_product(layer: AdapterLayer) -> tuple[Tensor, Tensor] | None:
    """Return A (r, d_in) and B (d_out, r), fp32 or better, where the update is scaling * B A.

    None where it is something else.
    """
    factors = layer.factors()
    if not {"lora_A", "lora_B"} <= factors.keys():
        return None
    down, up = (wide(factors[name].detach()) for name in ("lora_A", "lora_B"))
    if down.dim() != 2 or up.dim() != 2 or up.shape[1] != len(down):
        return None
    update = layer.delta_weight().detach()
    product = layer.scaling * layer.context.factor * (up @ down)
    return (down, up) if torch.allclose(update, product, rtol=1e-4, atol=1e-7) else None


@torch.no_grad()
def merge_layers(layers: Mapping[str, AdapterLayer]) -> None:
    """Form W0 + delta_weight() for every layer, then switch all of them over.

    The sum is formed in fp32 or better and rounded once to the weight's dtype.

    Raises:
        ValueError: A sum holds NaN or inf; no layer is merged then.
    """
    sums = {}
    for name, layer in layers.items():
        if layer.merged:
            continue
        layer.prepare()
        delta = layer.delta_weight()
        total = (layer.weight.to(delta.dtype) + delta).to(layer.weight.dtype)  # (d_out, d_in)
        if not total.is_meta and not bool(torch.isfinite(total).all()):
            raise ValueError(
                f"{name}: base weight + update holds NaN or inf; nothing was merged. Training "
                "diverged, or the update overflows the weight's dtype: load an earlier checkpoint"
            )
        sums[name] = total
    for name, total in sums.items():
        layers[name].merged_weight = total


def unmerge_layers(layers: Mapping[str, AdapterLayer]) -> None:
    """Drop the sums; forward is factored again, on the same base bits as ever."""
    for layer in layers.values():
        layer.merged_weight = None


def bake_layers(layers: Mapping[str, AdapterLayer]) -> None:
    """Turn merged layers into plain Linears, in place: W0 + delta is their weight, nothing is left.

    For decoding and export only: a merged adapter's forward costs some microseconds more per layer,
    and keeps the base beside the sum. The model's adapter has no layers any more: drop its handle.
    The Linears' class must add no attributes to nn.Linear's (openai-whisper's adds none).

    Raises:
        ValueError: A layer is not merged; no layer is changed then.
    """
    factored = [name for name, layer in layers.items() if not layer.merged]
    if factored:
        raise ValueError(f"{factored[0]} is not merged ({len(factored)} such): call merge() first")
    for layer in layers.values():
        assert layer.merged_weight is not None
        plain = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
        plain.weight = nn.Parameter(layer.merged_weight, requires_grad=False)
        plain.bias = layer.bias
        plain.training = layer.training
        linear: nn.Linear = layer
        linear.__class__ = layer.base_class
        linear.__dict__.clear()
        linear.__dict__.update(plain.__dict__)
