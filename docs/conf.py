"""How `make docs` builds the site: Sphinx reads these pages as they are, and the reference from docstrings.

The source folder is the project's root, so that links to benchmarks, examples and notebooks are as true on the site as in the repository.
Everything that the site needs lies in it: it is read from files, without a server and without a network.
"""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))
from docstrings import fields

project = "persopredict"
author = "The persopredict authors"
release = importlib.metadata.version("persopredict")

extensions = ["myst_nb", "sphinx.ext.autodoc"]
root_doc = "docs/index"
include_patterns = ["docs/**.md", "notebooks/*.ipynb", "benchmarks/*.md", "CHANGELOG.md", "CONTRIBUTING.md"]
exclude_patterns = [".*", "site", "persopredict-demo", "**/.*"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # What is stored in the notebooks is shown; tests run them.
suppress_warnings = ["myst.header"]  # The changelog's headings skip a level where a release has one part only.

# The reference ---------------------------------------------------------------------------------------------------------------------------

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
default_role = "py:obj"  # `Predictor` in a docstring is a link; what is no public name stays code.
add_module_names = False
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"


def _process(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    lines[:] = fields(lines)


# The look --------------------------------------------------------------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = f"persopredict {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "header_links_before_dropdown": 6,
    "footer_start": [],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"docs/index": []}
html_context = {"default_mode": "auto"}  # Light or dark, as the reader's system is.
html_show_search_summary = False  # From files a browser lets no page read another, which the summaries would have to.
html_show_sourcelink = False
html_copy_source = False
html_additional_pages = {"index": "docs_first.html"}
templates_path = ["_templates"]


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _process)
    app.add_lexer("cron", TextLexer)
