"""Layers whose maths is Hugging Face PEFT's: one wrapper for all of its methods.

A layer is, as everywhere here, the model's own Linear with its class extended. It owns all tensors
(what trains is a parameter, what is frozen a buffer) and keeps, out of sight of state dicts, a
form: PEFT's layer for a Linear of its size, without values. Before each use the layer's tensors are
put into the form, and PEFT computes with them. So PEFT never sees the base model: it has nothing to
inject into (which it refuses for methods with shared state) and no weight to write to.

PEFT is an optional package, imported when the first such layer is made.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor, nn

from espnet_blora.adapters.context import Context
from espnet_blora.adapters.layer import AdapterLayer

ADAPTER = "default"  # PEFT's name for the one adapter in a form
_SHAPES: dict[tuple, dict[str, torch.Size]] = {}


def peft_package():
    """Return the module peft.

    Raises ValueError, with the command that installs it, when it cannot be imported.
    """
    try:
        return importlib.import_module("peft")
    except ImportError as error:
        raise ValueError(
            f"this adapter comes from Hugging Face PEFT, which cannot be imported ({error}). "
            "Install it: pip install -e '.[peft]'; or use another adapter"
        ) from error


class NoBase(nn.Linear):
    """Stands where PEFT wants a Linear: it has a weight, but its output is 0.

    What PEFT's forward returns is then the update alone.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return zeros, (..., d_out)."""
        return x.new_zeros(*x.shape[:-1], self.out_features)


def no_base(in_features: int, out_features: int, device: str) -> NoBase:
    """Return a NoBase whose weight has no values: on "meta", or untouched memory on "cpu"."""
    base = NoBase(in_features, out_features, bias=False, device="meta")
    return base if device == "meta" else base.to_empty(device=device)


def peft_layer(config, base: nn.Linear) -> nn.Module:
    """Return PEFT's layer on `base`: what `get_peft_model` makes of it with this PEFT config."""
    shell = nn.Sequential()
    shell.add_module("linear", base)
    return peft_package().get_peft_model(shell, config).get_submodule("base_model.model.linear")


@contextmanager
def own_random_numbers(device: torch.device, seed: int | None = None) -> Iterator[None]:
    """Draw random numbers in here without moving torch's generators; from `seed` if given."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        if seed is not None:
            torch.manual_seed(seed)
        yield


class HfLayer(AdapterLayer):
    """An adapter layer that lends its tensors to a layer of PEFT's.

    A subclass names them: {our name: PEFT's name}. Ours are flat, and the factors are lora_A and
    lora_B whatever the method; `peft_names` leads back.
    """

    trained: ClassVar[dict[str, str]] = {}
    frozen: ClassVar[dict[str, str]] = {}
    # Of both: what the first layer owns for all, and what is computed from the base weight.
    shared_names: ClassVar[frozenset[str]] = frozenset()
    from_weight: ClassVar[tuple[str, ...]] = ()
    # {name: of which}: frozen copies of where trained tensors start; their update is subtracted.
    start_names: ClassVar[dict[str, str]] = {}
    # Tensors of ours that PEFT knows nothing of.
    own_names: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs) -> None:
        super().__init_subclass__(**kwargs)
        cls.parameter_names = (*cls.trained, *cls.frozen, *cls.start_names, *cls.own_names)
        cls.mean_names = tuple(cls.trained)

    def peft_config(self, from_weight: bool):
        """Return the PEFT config; with `from_weight`, the one that computes the start from W0."""
        raise TypeError(f"{type(self).__name__} names no PEFT config")

    def initial(self, device: str) -> dict[str, Tensor]:
        """Return PEFT's initial values on "cpu", or shapes alone on "meta"; what comes from the
        weight may be missing or meaningless.

        Draws from torch's global generator, as any layer's initialisation.
        """
        base = no_base(self.in_features, self.out_features, device)
        return read(peft_layer(self.peft_config(False), base), self.names)

    # ---- the tensors ----

    def start(self, config, context: Context, index: int) -> None:
        """Add the factors, in fp32 (fp64 on an fp64 base)."""
        super().start(config, context, index)
        self.config = config
        shared = getattr(config, "shared", None)
        if shared is not None and index == 0:
            shared.owner = self
        own = [n for n in self.names if n not in self.shared_names or shared.owner is self]
        shapes = self._shapes(shared is not None and shared.owner is self)
        kind = {
            "device": self.weight.device,
            "dtype": torch.float64 if self.weight.dtype == torch.float64 else torch.float32,
        }
        for name in own:
            value = torch.zeros(shapes[name], **kind)
            if name in self.trained:
                setattr(self, name, nn.Parameter(value))
            else:
                self.register_buffer(name, value)
        for name, of in self.start_names.items():
            self.register_buffer(name, torch.zeros(shapes[of], **kind))
        free = [name for name in own if name not in self.from_weight]
        if free and not self.weight.is_meta:
            values = self.initial("cpu")
            with torch.no_grad():
                for name in free:
                    getattr(self, name).copy_(values[name])
        if self.from_weight:
            self.declare_bases(*(n for n in own if n in self.from_weight), *self.start_names)

    def _shapes(self, owner: bool) -> dict[str, torch.Size]:
        """Return the shapes of all tensors; layers of one size need PEFT only once for them."""
        key = (type(self).__mro__[1], self.config, self.in_features, self.out_features, owner)
        if key not in _SHAPES:
            with own_random_numbers(torch.device("cpu")):
                _SHAPES[key] = {n: value.shape for n, value in self.initial("meta").items()}
        return _SHAPES[key]

    @torch.no_grad()
    def compute_basis(self, weight: Tensor) -> dict[str, Tensor]:
        """Return what PEFT computes from the weight; it gets a copy, which it may write to.

        Raises ValueError when the weight holds NaN or inf.
        """
        if not bool(torch.isfinite(weight).all()):
            raise ValueError("the base weight holds NaN or inf; load a sound base")
        base = NoBase(self.in_features, self.out_features, bias=False, device="meta")
        base.weight = nn.Parameter(self._for_peft(weight).clone(), requires_grad=False)
        with own_random_numbers(weight.device):
            values = read(peft_layer(self.peft_config(True), base), self.from_weight_paths())
        return {**values, **{name: values[of] for name, of in self.start_names.items()}}

    def _for_peft(self, weight: Tensor) -> Tensor:
        """Return the weight in a dtype that PEFT factorises."""
        return weight.float()

    def from_weight_paths(self) -> dict[str, str]:
        """Return {our name: PEFT's name} of what comes from the weight and this layer has."""
        return {name: path for name, path in self.names.items() if name in self.from_weight}

    @property
    def names(self) -> dict[str, str]:
        """{our name: PEFT's name} of all tensors used, whoever owns them."""
        return {**self.trained, **self.frozen}

    def peft_names(self) -> dict[str, str]:
        """Return {our name: PEFT's name} of the tensors in this layer's own state dict."""
        return {
            n: path for n, path in self.names.items() if n in self._parameters or n in self._buffers
        }

    def tensor(self, name: str) -> Tensor:
        """Return the tensor of this name, from whichever layer owns it."""
        shared = name in self.shared_names
        return getattr(self.config.shared.owner if shared else self, name)

    # ---- the form ----

    def form(self, wide: bool = False) -> nn.Module:
        """Return PEFT's layer with this layer's tensors and base weight in it, as they are now.

        wide: in fp32 or better, for what is computed from the tensors alone.
        """
        kept = self.__dict__.get("_hf_form")
        if kept is None:
            with own_random_numbers(torch.device("cpu")):
                form = peft_layer(
                    self.peft_config(False), no_base(self.in_features, self.out_features, "meta")
                )
            slots = [(name, *slot(form, path)) for name, path in self.names.items()]
            # Dropout is ours, and PEFT's checks in training wait for the GPU.
            kept = self.__dict__["_hf_form"] = (form.eval(), slots)
        form, slots = kept
        for name, place, key in slots:
            tensor = self.tensor(name)
            place[key] = tensor.float() if wide and tensor.dtype != torch.float64 else tensor
        form.base_layer._parameters["weight"] = self.weight
        return form

    def __reduce__(self):
        make, arguments, state = super().__reduce__()
        return make, arguments, {key: value for key, value in state.items() if key != "_hf_form"}

    # ---- the update ----

    def update(self, x: Tensor) -> Tensor:
        """Return PEFT's update, with dropout on x in training."""
        return self.form()(self._input(x))

    def _input(self, x: Tensor) -> Tensor:
        """Return x after dropout, in the dtype of the factors."""
        return self._dropout(x).to(self.tensor(next(iter(self.trained))).dtype)

    def delta_weight(self) -> Tensor:
        """Return factor * (PEFT's update of the weight), (d_out, d_in), fp32 or better."""
        return self.context.factor * self.form(wide=True).get_delta_weight(ADAPTER)


def slot(form: nn.Module, path: str) -> tuple[dict, str]:
    """Return the dict that holds the tensor `path` of a PEFT layer, and its key there."""
    parent, _, key = path.rpartition(".")
    try:
        module = form.get_submodule(parent)
    except AttributeError:
        module = None
    for place in () if module is None else (module._parameters, module._buffers):
        if key in place:
            return place, key
    raise ValueError(
        f"PEFT's {type(form).__module__}.{type(form).__name__} has no {path}: this version of PEFT "
        "is laid out differently. Install the one that this package names: pip install -e '.[peft]'"
    )


def read(form: nn.Module, paths: dict[str, str]) -> dict[str, Tensor]:
    """Return {our name: tensor} of a PEFT layer, for {our name: PEFT's name}."""
    values = {}
    for name, path in paths.items():
        place, key = slot(form, path)
        values[name] = place[key].detach()
    return values
