"""Sphinx configuration."""

import re

from sbi_aalr import __version__

project = "sbi_aalr"
author = "The sbi_aalr developers"
copyright = author
release = version = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "jupyter_execute"]
html_theme = "furo"
html_title = "sbi_aalr"
html_static_path = ["_static"]
html_css_files = ["style.css"]

# Docstrings put code between single backticks.
default_role = "code"
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_use_ivar = True
napoleon_custom_sections = [("Fields", "params_style")]  # sbi's word in dataclasses

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_execution_in_temp = True


def write_rst(app, what, name, obj, options, lines):
    """Let docstrings write $math$, and p(x|theta) without naming a substitution."""

    def translate(match):
        code, math = match.groups()
        return code or (rf":math:`{math}`" if math else r"\|")

    for i, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            lines[i] = re.sub(r"(`[^`]*`)|\$([^$]+)\$|\|", translate, line)


def skip_field_aliases(app, what, name, obj, skip, options):
    """Leave out what NamedTuple says of its fields; the class docstring says more."""
    return True if re.match("Alias for field number", obj.__doc__ or "") else None


def setup(app):
    app.connect("autodoc-process-docstring", write_rst)
    app.connect("autodoc-skip-member", skip_field_aliases)
