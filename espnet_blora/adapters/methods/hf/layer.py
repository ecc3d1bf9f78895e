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
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from espnet_blora.adapters.context import Context
from espnet_blora.adapters.layer import AdapterLayer, wide

ADAPTER = "default"  # PEFT's name for the one adapter in a form
_SHAPES: dict[tuple, dict[str, torch.Size]] = {}


def peft_package() -> ModuleType:
    """Return the module peft.

    Raises:
        ValueError: It cannot be imported; names the command that installs it.
    """
    try:
        return importlib.import_module("peft")
    except ImportError as error:
        raise ValueError(
            f"this adapter comes from Hugging Face PEFT, which cannot be imported ({error}). "
            "Install it: pip install -e '.[peft]'; or use another adapter"
        ) from error


class NoBase(nn.Linear):
    """A stand-in where PEFT wants a Linear: it has a weight, but its output is 0.

    What PEFT's forward returns is then the update alone.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return zeros, (..., d_out)."""
        return x.new_zeros(*x.shape[:-1], self.out_features)


def no_base(in_features: int, out_features: int, device: str) -> NoBase:
    """Return a NoBase whose weight has no values: on "meta", or untouched memory on "cpu"."""
    return nn.utils.skip_init(NoBase, in_features, out_features, bias=False, device=device)


def peft_layer(config: Any, base: nn.Linear) -> nn.Module:
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
    lora_B whatever the method.

    Attributes:
        trained: Names of the tensors that are trained.
        frozen: Names of the tensors that are not.
        shared_names: Those which the first layer owns for all.
        from_weight: Those which are computed from the base weight.
        start_names: {name: trained name}: frozen copies of where trained tensors start; their
            update is subtracted.
        own_names: Tensors of ours that PEFT does not know.
        config: The options of this layer.
    """

    trained: ClassVar[dict[str, str]] = {}
    frozen: ClassVar[dict[str, str]] = {}
    shared_names: ClassVar[frozenset[str]] = frozenset()
    from_weight: ClassVar[tuple[str, ...]] = ()
    start_names: ClassVar[dict[str, str]] = {}
    own_names: ClassVar[tuple[str, ...]] = ()

    config: Any

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.parameter_names = (*cls.trained, *cls.frozen, *cls.start_names, *cls.own_names)
        cls.mean_names = tuple(cls.trained)

    def peft_config(self, from_weight: bool) -> Any:
        """Return the PEFT config; with `from_weight`, the one that computes the start from W0."""
        raise TypeError(f"{type(self).__name__} names no PEFT config")

    def initial(self, device: str) -> dict[str, Tensor]:
        """Return PEFT's initial values on "cpu", or shapes alone on "meta".

        Values that come from the weight may be missing or meaningless. Draws from torch's global
        generator, as any layer's initialisation.
        """
        base = no_base(self.in_features, self.out_features, device)
        return read(peft_layer(self.peft_config(False), base), self.names)

    # ---- the tensors ----

    def start(self, config: Any, context: Context, index: int) -> None:
        """Add the factors, in fp32 (fp64 on an fp64 base)."""
        super().start(config, context, index)
        self.config = config
        shared = getattr(config, "shared", None)
        if shared is not None and index == 0:
            shared.owner = self

        # Room for every tensor that this layer owns.
        own = [name for name in self.names if self.is_owner or name not in self.shared_names]
        shapes = self._shapes()
        for name in own:
            room = torch.zeros(shapes[name], **self.new_kind())
            if name in self.trained:
                setattr(self, name, nn.Parameter(room))
            else:
                self.register_buffer(name, room)
        for name, trained in self.start_names.items():
            self.register_buffer(name, torch.zeros(shapes[trained], **self.new_kind()))

        # Their values: PEFT's initial ones now, those from the base weight when it is loaded.
        free = [name for name in own if name not in self.from_weight]
        if free and not self.weight.is_meta:
            values = self.initial("cpu")
            with torch.no_grad():
                for name in free:
                    getattr(self, name).copy_(values[name])
        if self.from_weight:
            self.declare_bases(*(n for n in own if n in self.from_weight), *self.start_names)

    @property
    def is_owner(self) -> bool:
        """Whether this layer owns the tensors that all layers share."""
        shared = getattr(self.config, "shared", None)
        return shared is not None and shared.owner is self

    def _shapes(self) -> dict[str, torch.Size]:
        """Return the shapes of all tensors; layers of one size need PEFT only once for them."""
        size = self.in_features, self.out_features
        key = (type(self).__mro__[1], self.config, size, self.is_owner)
        if key not in _SHAPES:
            with own_random_numbers(torch.device("cpu")):
                _SHAPES[key] = {n: value.shape for n, value in self.initial("meta").items()}
        return _SHAPES[key]

    @torch.no_grad()
    def compute_basis(self, weight: Tensor) -> dict[str, Tensor]:
        """Return what PEFT computes from the weight; it gets a copy, which it may write to.

        Raises:
            ValueError: The weight holds NaN or inf.
        """
        if not bool(torch.isfinite(weight).all()):
            raise ValueError("the base weight holds NaN or inf; load a sound base")
        base = NoBase(self.in_features, self.out_features, bias=False, device="meta")
        base.weight = nn.Parameter(self._for_peft(weight).clone(), requires_grad=False)
        paths = {name: path for name, path in self.names.items() if name in self.from_weight}
        with own_random_numbers(weight.device):
            values = read(peft_layer(self.peft_config(True), base), paths)
        return {**values, **{name: values[of] for name, of in self.start_names.items()}}

    def _for_peft(self, weight: Tensor) -> Tensor:
        """Return the weight in a dtype that PEFT factorises."""
        return weight.float()

    @property
    def names(self) -> dict[str, str]:
        """{our name: PEFT's name} of all tensors used, whichever layer owns them."""
        return {**self.trained, **self.frozen}

    def tensor(self, name: str) -> Tensor:
        """Return the tensor of this name, from whichever layer owns it."""
        shared = name in self.shared_names
        return getattr(self.config.shared.owner if shared else self, name)

    # ---- the form ----

    def form(self, in_wide: bool = False) -> Any:
        """Return PEFT's layer with this layer's tensors and base weight in it, as they are now.

        Args:
            in_wide: Whether in fp32 or better, for what is computed from the tensors alone.
        """
        kept: Any = self.__dict__.get("_hf_form")
        if kept is None:
            with own_random_numbers(torch.device("cpu")):
                fresh = peft_layer(
                    self.peft_config(False), no_base(self.in_features, self.out_features, "meta")
                )
            slots = [(name, *slot(fresh, path)) for name, path in self.names.items()]
            # Dropout is ours, and PEFT's checks in training wait for the GPU.
            kept = self.__dict__["_hf_form"] = (fresh.eval(), slots)
        form, slots = kept
        for name, tensors, key in slots:
            tensor = self.tensor(name)
            tensors[key] = wide(tensor) if in_wide else tensor
        form.base_layer._parameters["weight"] = self.weight
        return form

    def __reduce__(self) -> tuple:
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
        return self.context.factor * self.form(in_wide=True).get_delta_weight(ADAPTER)


def slot(form: nn.Module, path: str) -> tuple[dict[str, Any], str]:
    """Return the dict that holds the tensor `path` of a PEFT layer, and its key there.

    Raises:
        ValueError: There is no such tensor: this version of PEFT is laid out differently.
    """
    parent, _, key = path.rpartition(".")
    module = dict(form.named_modules(remove_duplicate=False)).get(parent)
    if module is not None:
        for tensors in (module._parameters, module._buffers):
            if key in tensors:
                return tensors, key
    raise ValueError(
        f"PEFT's {type(form).__module__}.{type(form).__name__} has no {path}: this version of PEFT "
        "is laid out differently. Install the one that this package names: pip install -e '.[peft]'"
    )


def read(form: nn.Module, paths: dict[str, str]) -> dict[str, Tensor]:
    """Return {our name: tensor} of a PEFT layer, for {our name: PEFT's name}."""
    values = {}
    for name, path in paths.items():
        tensors, key = slot(form, path)
        values[name] = tensors[key].detach()
    return values
