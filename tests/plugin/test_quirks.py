"""The touch points of ESPnet are where they were read; this fails when its internals move."""

import subprocess
import sys

import pytest

from espnet_blora.plugin import quirks


@pytest.mark.integration
def test_every_touch_point_is_in_place_in_a_fresh_process():
    # A fresh process: others of these tests have replaced the functions here.
    code = (
        "from espnet_blora.plugin import quirks; import espnet2;"
        "assert espnet2.__version__ == quirks.RELEASE, espnet2.__version__;"
        "lines = quirks.moved(); assert not lines, lines; assert len(quirks.TOUCHES) > 10;"
        "quirks.check_release(); print('all in place')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "all in place" in done.stdout


def test_a_moved_place_is_named():
    touches = (
        quirks.Touch("espnet2.utils.types", "no_such_name", (), "nothing"),
        quirks.Touch("espnet2.utils.types", "str2bool", ("def str2bool",), "nothing"),
        quirks.Touch("espnet2.utils.types", "str2bool", ("no such line",), "nothing"),
    )
    lines = quirks.moved(touches)
    assert len(lines) == 2
    assert "no_such_name is gone" in lines[0] and "no such line" in lines[1]


def test_another_release_with_moved_places_is_refused(monkeypatch):
    import espnet2

    monkeypatch.setattr(espnet2, "__version__", "209901")
    gone = quirks.Touch("espnet2.utils.types", "no_such_name", (), "nothing")
    monkeypatch.setattr(quirks.moved, "__defaults__", ((gone,),))
    with pytest.raises(ValueError, match=r"209901.*no_such_name.*pip install espnet==202611"):
        quirks.check_release()


def test_another_release_with_nothing_moved_is_warned_of(monkeypatch, caplog):
    import espnet2

    monkeypatch.setattr(espnet2, "__version__", "209901")
    monkeypatch.setattr(quirks.moved, "__defaults__", ((),))
    quirks.check_release()
    assert "209901" in caplog.text and "202611" in caplog.text
