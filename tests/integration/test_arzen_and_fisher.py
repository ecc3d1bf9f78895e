"""The recipes of ArzEn and Fisher on layout-exact copies."""

import pytest

from tests.data.layouts import arzen, fisher
from tests.integration.corpora import check_stages

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]


def test_arzen_with_lora(tmp_path):
    layout = arzen.make(tmp_path / "corpus")
    check_stages("arzen", layout, "ARZEN", ("test",), "ar", tmp_path, "lora")


def test_fisher_to_its_token_list(tmp_path):
    layout, new = fisher.make(tmp_path / "corpus"), ("cs_eval", "mono_eval")
    check_stages("fisher_cs", layout, "FISHER_CALLHOME_SPANISH", new, "es", tmp_path)
