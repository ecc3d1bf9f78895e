"""Settings of the documentation: `make docs` builds it into docs/_build/html, without a network."""

import sys
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import generate  # noqa: E402  (docs/generate.py: the pages that are made from the code)

from espnet_blora.version import __version__  # noqa: E402

project = "espnet_blora"
author = "The espnet_blora authors"
copyright = "The espnet_blora authors, Apache-2.0"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build", "_generated"]
default_role = "code"  # single backticks in docstrings
smartquotes = False  # an option's value stands as it is typed
source_suffix = {".md": "markdown"}

html_theme = "furo"
html_title = f"espnet_blora {__version__}"
html_show_sphinx = False
html_copy_source = False
templates_path: list[str] = []

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the signature would name every package whose pages are elsewhere

# A type that has no entry on the API's page is not a mistake: most are others', on a network.
nitpick_ignore_regex = [(r"py:.*", r".*")]

html_math_renderer = "mathml"  # browsers show it without a script from elsewhere


def mathml(self, node):
    """Write a formula as MathML, in a paragraph of its own where it stands alone."""
    display = isinstance(node, nodes.math_block)
    formula = tex2mathml(node.astext(), as_block=display)
    self.body.append(f"<p>{formula}</p>" if display else formula)
    raise nodes.SkipNode


def setup(app):
    """Write the generated parts before anything is read."""
    app.add_html_math_renderer("mathml", (mathml, None), (mathml, None))
    app.connect("builder-inited", lambda app: generate.write_all(HERE / "_generated"))
