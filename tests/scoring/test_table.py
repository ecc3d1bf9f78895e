"""ESPnet's table."""

from espnet_blora.scoring import score
from espnet_blora.scoring.table import espnet_table


def test_table():
    one = score({"a": "x y z w", "b": "v"}, {"a": "x q z", "b": "v u"})
    nothing = score({"a": ""}, {"a": "y"})
    assert espnet_table([("test", one), ("a|b", nothing)]).split("\n") == [
        "|dataset|Snt|Wrd|Corr|Sub|Del|Ins|Err|S.Err|",
        "|---|---|---|---|---|---|---|---|---|",
        "|test|2|5|60.0|20.0|20.0|20.0|60.0|100.0|",
        "|a\\|b|1|0|–|–|–|–|–|100.0|",
    ]
