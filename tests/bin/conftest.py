"""What the programs' tests share."""

import pytest

from tests.plugin.token_yaml import quick_token_lists  # noqa: F401


@pytest.fixture
def mistake(capsys):
    """Run what must end in one line of `program`, its last one, and status 2; return the line."""

    def line(program, run, *arguments):
        assert run(*arguments) == 2
        said = capsys.readouterr().err
        assert "Traceback" not in said
        said = said.splitlines()[-1]
        assert said.startswith(f"{program}: error: ")
        return said

    return line
