"""How Sphinx builds the web site; `docs.build` calls it."""

import ast
import os
import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

import csbp_core
from csbp_notebooks.files import ROOT
from docs.facts import address, facts, where_to_run

project = "Chaotic spiking back-propagation, checked"
author = "The CSBP notebooks contributors"
copyright = f"{author}; MIT license"
version = release = csbp_core.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "docs.mathml",
    "docs.notebook_pages",
]

# What `extra` has is no page, and a stored widget would load its parts from another host.
exclude_patterns = ["extra", "notebooks/explore.ipynb"]

# Notebooks are shown as they are stored.
nb_execution_mode = "off"
nb_merge_streams = True
nb_render_markdown_format = "myst"  # with tables and formulas, as in the pages
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
myst_enable_extensions = ["colon_fence", "dollarmath", "substitution"]
myst_heading_anchors = 3
repository = os.environ.get("GITHUB_REPOSITORY")  # set in its workflows
myst_substitutions = {
    **facts(ROOT / "images"),
    "address": address(repository),
    "where_to_run": where_to_run(repository),
}
html_math_renderer = "mathml"

# In docstrings `name` is code, and a link where there is such a name.
default_role = "py:obj"
# Attributes as a list: each by a directive of its own would describe properties twice.
napoleon_custom_sections = [("Attributes", "params_style")]
autodoc_member_order = "bysource"
autodoc_typehints = "none"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = "CSBP, checked"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = [("site.js", {"priority": 300})]  # before Sphinx's own search reads the option
html_extra_path = ["extra"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b5c94", "color-brand-content": "#0b5c94"},
    "dark_css_variables": {"color-brand-primary": "#7cc4f5", "color-brand-content": "#7cc4f5"},
}


def keep_stars(
    app: Sphinx, what: str, name: str, item: Any, options: Any, lines: list[str]
) -> None:
    """Let a glob in a docstring, "**.conv", not begin a bold phrase."""
    lines[:] = [line.replace('"**', r'"\**') for line in lines]


def leave_formulas_plain(app: Sphinx, page: nodes.document) -> None:
    """Give no colours to blocks that neither are Python nor say what they are, as formulas."""
    for block in page.findall(nodes.literal_block):
        if "language" not in block and not is_python(block.astext()):
            block["language"] = "text"


def is_python(text: str) -> bool:
    """Whether Python can read a text as a program."""
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def say_levels(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Tell screen readers the level of the headings in the sidebar, which Sphinx leaves out."""
    navigation = context["furo_navigation_tree"]
    heading = 'role="heading"'
    context["furo_navigation_tree"] = navigation.replace(heading, f'{heading} aria-level="2"')


# What a browser takes the parts of a table for, as long as it shows them as such.
ROLES = {
    "table": "table",
    "thead": "rowgroup",
    "tbody": "rowgroup",
    "tr": "row",
    "th": "columnheader",
    "td": "cell",
}


def keep_roles(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Let the table of verdicts stay one for screen readers where site.css shows it as blocks."""
    if page == "verdicts":
        part = rf"<({'|'.join(ROLES)})\b"
        context["body"] = re.sub(part, lambda found: with_role(found[1]), context["body"])


def with_role(tag: str) -> str:
    """The beginning of a tag with its role."""
    return f'<{tag} role="{ROLES[tag]}"'


def setup(app: Sphinx) -> None:
    """What Sphinx calls."""
    app.connect("html-page-context", say_levels, priority=900)  # once the theme has made them
    app.connect("html-page-context", keep_roles)
    app.connect("autodoc-process-docstring", keep_stars)
    app.connect("doctree-read", leave_formulas_plain)
