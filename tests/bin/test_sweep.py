"""The sweep's command line: a user's mistake is one line and status 1."""

import pytest

from espnet_blora.bin import sweep


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--scales", "0 a"], "sweep: error: --scales '0 a': numbers with blanks between"),
        (["--scales", "0 -1"], "at least one finite number >= 0 is needed"),
        ([], "sweep: error: {exp}/config.yaml: no such file; train first"),
    ],
)
def test_mistakes(tmp_path, capsys, extra, message):
    exp = tmp_path / "asr_x"
    with pytest.raises(SystemExit) as caught:
        sweep.main(["--asr_exp", str(exp), "--sets", "x", "--threads", "1", *extra])
    assert caught.value.code == 1
    assert message.format(exp=exp) in capsys.readouterr().err


def test_the_length_limit_is_the_recipes(tmp_path):
    assert sweep.max_len_ratio(None) == 0.0
    conf = tmp_path / "decode.yaml"
    conf.write_text("beam_size: 1\nmaxlenratio: 0.2\n")
    assert sweep.max_len_ratio(conf) == 0.2
    conf.write_text("maxlenratio: much\n")
    with pytest.raises(ValueError, match=r"decode\.yaml: maxlenratio is 'much'"):
        sweep.max_len_ratio(conf)
