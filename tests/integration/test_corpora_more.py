"""The recipes of Fisher and of own data on layout-exact copies."""

import pytest

from tests.data.layouts import custom, fisher
from tests.integration.corpora import check_stages

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]


def test_fisher_to_its_token_list(tmp_path):
    layout, new = fisher.make(tmp_path / "corpus"), ("cs_eval", "mono_eval")
    check_stages("fisher_cs", layout, "FISHER_CALLHOME_SPANISH", new, "es", tmp_path)


def test_own_data_with_all_weights(tmp_path):
    layout = custom.make(tmp_path / "corpus")
    check_stages("custom", layout, "CUSTOM", ("test",), "zh", tmp_path, "full")
