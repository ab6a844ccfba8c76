"""Settings of Sphinx; ``make docs`` builds the site into ``build/docs``."""

import os
import re
import shutil
import sys
from pathlib import Path

import matplotlib as mpl
from sphinx.application import Sphinx
from sphinx.ext.autosummary.generate import generate_autosummary_docs

from napari_atomicity import __version__

DOCS = Path(__file__).resolve().parent

mpl.use("agg")
SOURCE = "https://github.com/napari-atomicity/napari-atomicity"

project = "napari-atomicity"
author = copyright = "the napari-atomicity developers"
version = release = __version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["cluster", "reference/generated/*.md", "gallery/**/*.ipynb"]
# Docstrings of the package use single backquotes for code, as napari and scikit-image do.
default_role = "code"

html_theme = "pydata_sphinx_theme"
html_title = "napari-atomicity"
html_theme_options = {
    "github_url": SOURCE,
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
    "logo": {
        "image_light": "_static/logo.svg",
        "image_dark": "_static/logo.svg",
        "text": "Atomicity",
    },
    "use_edit_page_button": True,
}
html_favicon = "_static/logo.svg"
html_context = {
    "github_user": "napari-atomicity",
    "github_repo": project,
    "github_version": "main",
    "doc_path": "docs",
}
html_sidebars = {"index": [], "contributing": []}
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_show_sourcelink = False
html_copy_source = False

myst_enable_extensions = ["attrs_inline", "colon_fence", "dollarmath", "html_image"]
myst_heading_anchors = 4

autosummary_generate = False
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": os.sep,
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "within_subsection_order": "FileNameSortKey",
}


def link_to_source(app: Sphinx, page: str, text: list[str]) -> None:
    """Replace links of a page to files outside the documentation by links to the repository."""
    folder = DOCS / Path(page).parent

    def replace(link: re.Match[str]) -> str:
        path = (folder / link[1]).resolve()
        if path.is_relative_to(DOCS) or not path.is_relative_to(DOCS.parent):
            return link[0]
        return f"]({SOURCE}/blob/main/{path.relative_to(DOCS.parent).as_posix()}{link[2] or ''})"

    text[0] = re.sub(r"\]\((\.\./[^)#\s]+)(#[^)\s]*)?\)", replace, text[0])


def write_reference(app: Sphinx) -> None:
    """Write the generated parts of the reference, and a page for each public name."""
    sys.path.insert(0, str(DOCS / "scripts"))
    import make_reference

    make_reference.write()
    listed, pages = make_reference.FOLDER / "python.md", make_reference.FOLDER / "api"
    shutil.rmtree(pages, ignore_errors=True)  # of names that are no longer public
    generate_autosummary_docs([str(listed)], output_dir=pages, app=app, overwrite=True)


def setup(app: Sphinx) -> None:
    """Generate pages before they are read, and adapt links."""
    app.connect("builder-inited", write_reference, priority=100)
    app.connect("source-read", link_to_source)
