"""What every test stands on: no network, one thread, fixed seeds, the scale of recipe runs."""

import os
import sys

# Before torch, huggingface_hub or matplotlib are imported by a test module.
os.environ.update(
    OMP_NUM_THREADS="1",
    MKL_NUM_THREADS="1",
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    MPLBACKEND="Agg",
    TOKENIZERS_PARALLELISM="false",
    # Programs that tests start by name are those of the environment, activated or not.
    PATH=f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}",
)

import gc
import ipaddress
import logging
import math
import random
import socket

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is not a mistake; in CI a run tries the same examples as the run before.
settings.register_profile(
    "default",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
)
settings.load_profile("default")

# What test modules import stays to the end, millions of objects: they are not looked through for
# garbage, neither while they are imported nor at every later collection.
gc.disable()


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


def pytest_addoption(parser):
    parser.addoption(
        "--scale",
        choices=("ci", "full"),
        default=os.environ.get("SCALE", "ci"),
        help="size of recipe runs in integration tests (default: the environment's SCALE, else ci)",
    )


def pytest_collection_modifyitems(items):
    """Unit tests first, then integration tests, those that may take longest before the others."""
    for item in items:
        if "integration" in item.path.parts:
            item.add_marker(pytest.mark.integration)
        if item.get_closest_marker("integration") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(1500))
    items.sort(key=patience)


def patience(item):
    """Unit tests come first; then integration tests, those with the longest limit first."""
    if item.get_closest_marker("integration") is None:
        return -math.inf
    limit = item.get_closest_marker("timeout")
    return -limit.args[0] if limit else 0


@pytest.fixture(scope="session")
def scale(request):
    return request.config.getoption("--scale")


@pytest.fixture(autouse=True)
def fixed_seeds():
    """Each test starts from the same random state, whatever ran before it."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        # torch.manual_seed notes where it was called until a GPU is used: 1 ms for every test.
        torch.default_generator.manual_seed(0)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(0)
        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def same_log_level():
    """A program that runs in the tests' process sets the root's level for its own time only."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)


@pytest.fixture(autouse=True, scope="session")
def no_network():
    """A connection to anything but this machine is an error, not a slow download."""
    connect = socket.socket.connect

    def guarded(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            host = address[0]
            try:
                local = ipaddress.ip_address(host).is_loopback
            except ValueError:
                local = host == "localhost"
            if not local:
                raise RuntimeError(f"a test tried to reach {host}; tests use no network")
        return connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield
