"""Run a notebook's code cells in order, in one process, and keep what they show in its file.

    python3 docs/run_notebook.py docs/notebooks/adapt_a_whisper.ipynb [FOLDER]

It needs no Jupyter. Cells run in FOLDER (default: a temporary one). What is printed, and the value
of a cell's last expression, become its outputs; the first error ends the run with its traceback.
`docs/generate.py` makes the notebook's page of what is in the file.
"""

import ast
import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any


def run(notebook: dict[str, Any]) -> None:
    """Run the code cells; each gets its outputs, as Jupyter stores them."""
    names: dict[str, Any] = {"__name__": "notebook"}
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(code, 1):
        tree = ast.parse("".join(cell["source"]), f"cell {number}")
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        printed, value = io.StringIO(), None
        with contextlib.redirect_stdout(printed):
            exec(compile(tree, f"cell {number}", "exec"), names)
            if isinstance(last, ast.Expr):
                value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
        cell["execution_count"] = number
        cell["outputs"] = []
        if printed.getvalue():
            text = printed.getvalue().splitlines(keepends=True)
            cell["outputs"].append({"output_type": "stream", "name": "stdout", "text": text})
        if value is not None:
            data = {"text/plain": str(value).splitlines(keepends=True)}
            result = {"output_type": "execute_result", "execution_count": number}
            cell["outputs"].append({**result, "metadata": {}, "data": data})


def main(path: Path, folder: Path) -> None:
    """Run one notebook and write it again."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    path = path.absolute()
    os.chdir(folder)
    run(notebook)
    text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            main(Path(sys.argv[1]), Path(scratch))
