"""The conditions conftest.py promises: seeds, one thread, no network, our own deprecations."""

import os
import socket
import warnings

import numpy as np
import pytest
import torch


@pytest.mark.parametrize("_", range(2))
def test_every_test_starts_from_the_same_seed(_):
    assert torch.rand(1).item() == pytest.approx(0.4962565899)
    assert np.random.rand() == pytest.approx(0.5488135039)


def test_one_thread():
    assert torch.get_num_threads() == 1
    assert os.environ["OMP_NUM_THREADS"] == "1"


def test_network_is_refused_and_this_machine_is_not():
    with pytest.raises(RuntimeError, match="no network"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=5).close()


@pytest.mark.parametrize(("module", "fails"), [("espnet_blora.text.a", True), ("other", False)])
def test_only_our_own_deprecations_are_errors(module, fails):
    code = "import warnings; warnings.warn('going', DeprecationWarning)"
    with warnings.catch_warnings(record=True):
        if fails:
            with pytest.raises(DeprecationWarning, match="going"):
                exec(code, {"__name__": module})
        else:
            exec(code, {"__name__": module})
