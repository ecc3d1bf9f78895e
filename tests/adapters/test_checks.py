import numpy as np
import pytest

from espnet_blora.adapters import checks


@pytest.mark.parametrize("value", [True, None, "3", float("inf"), [1]])
def test_what_is_no_number(value):
    with pytest.raises(ValueError, match="here: key is .*allowed: a number"):
        checks.number("here", "key", value)


def test_ranges_are_open_where_said():
    assert checks.number("here", "key", 0, 0.0) == 0.0
    with pytest.raises(ValueError, match="a number > 0 and < 1"):
        checks.number("here", "key", 0, 0.0, 1.0, open_low=True, open_high=True)
    with pytest.raises(ValueError, match="a number >= 0 and <= 1"):
        checks.number("here", "key", 1.5, 0.0, 1.0)


def test_whole_numbers_of_numpy_are_whole_numbers():
    assert type(checks.integer("here", "key", np.int64(4), 1)) is int
    with pytest.raises(ValueError, match="a whole number >= 1"):
        checks.integer("here", "key", np.int64(0), 1)
