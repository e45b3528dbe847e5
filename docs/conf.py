"""How Sphinx makes the documentation site: ``sphinx-build -W docs FOLDER``.

The pages are plain Markdown, which also reads well where the site is not at hand. What only the
site has is added as a page is read: the navigation, which follows the links of the start page and
of the index of commands, and the docstrings of the Python API.
"""

import re
from inspect import signature
from typing import Any, get_type_hints

from sphinx.application import Sphinx
from sphinx.util.inspect import stringify_signature

import fedcli

project = "fedcli"
release = version = fedcli.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "README"
templates_path = ["_templates"]
exclude_patterns = ["_templates"]

smartquotes = False  # "--" is an option, not a dash

myst_heading_anchors = 4  # levels of headings that links lead to, named as GitHub names them

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
add_module_names = False

html_theme = "furo"
html_title = f"fedcli {release}"
html_copy_source = False
html_show_copyright = html_show_sphinx = False
html_additional_pages = {"index": "index.html"}  # leads to the start page
html_theme_options = {"top_of_page_buttons": []}

_LISTED = re.compile(r"^(?:- |\| )\[[^]]+\]\(([\w/-]+)\.md\)", re.MULTILINE)  # items and rows
_INDEXES = (root_doc, "commands/README")
_API = "api-reference"


def _contents(source: str) -> str:
    """Return a hidden table of contents of the pages that each section lists."""
    tables = []
    for section in re.split(r"^#+ ", source, flags=re.MULTILINE):
        if pages := _LISTED.findall(section):
            caption = section.partition("\n")[0]
            tables += ["```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```", ""]
    return "\n".join(tables)


def _kind(name: str) -> str:
    """Return under which heading a public name stands."""
    value = getattr(fedcli, name)
    if not isinstance(value, type):
        return "Functions" if callable(value) else "Rules of aggregation"
    return "Errors" if issubclass(value, BaseException) else "Classes"


_DIRECTIVES = {
    "Functions": ".. autofunction:: fedcli.{}",
    "Classes": ".. autoclass:: fedcli.{}\n   :members:",
    "Errors": ".. autoexception:: fedcli.{}\n   :members:\n   :show-inheritance:",
}


def _rules(name: str) -> str:
    """Return the entry of a dictionary of rules, which has no docstring: its keys."""
    keys = ", ".join(f"``{key}``" for key in getattr(fedcli, name))
    return f".. py:data:: fedcli.{name}\n\n   {keys}"


def _docstrings() -> str:
    """Return a section for each kind of public name, with the docstrings of all of that kind."""
    parts = []
    for kind in ("Functions", "Classes", "Errors", "Rules of aggregation"):
        names = [name for name in dir(fedcli) if name != "__version__" and _kind(name) == kind]
        entries = [
            _DIRECTIVES[kind].format(name) if kind in _DIRECTIVES else _rules(name)
            for name in names
        ]
        parts += [f"## {kind}", "", "```{eval-rst}", "\n\n".join(entries), "```", ""]
    return "\n".join(parts)


def _complete(app: Sphinx, docname: str, source: list[str]) -> None:
    if docname in _INDEXES:
        source[0] += "\n" + _contents(source[0])
    elif docname == _API:
        source[0] += "\n" + _docstrings()


def _readable(
    app: Sphinx, what: str, name: str, value: Any, options: Any, shown: str | None, returned: str
) -> tuple[str | None, str]:
    """Return a signature without the ranges and help texts that stand beside its types."""
    if shown and "Annotated[" in shown:
        whole, types = signature(value), get_type_hints(value.__init__)
        plain = [one.replace(annotation=types[one.name]) for one in whole.parameters.values()]
        whole = whole.replace(parameters=plain)
        shown = stringify_signature(whole, show_return_annotation=False, unqualified_typehints=True)
    return shown and shown.replace("<factory>", "..."), returned


def setup(app: Sphinx) -> None:
    """Let pages be completed as they are read."""
    app.connect("source-read", _complete)
    app.connect("autodoc-process-signature", _readable)
