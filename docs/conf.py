"""How the site is built: `make docs`.

The folder that Sphinx reads is the repository itself, so a Markdown file's relative links and
pictures mean the same here and on GitHub; `include_patterns` says which files are pages. Links to
other files of the repository lead to their highlighted sources (site/sources.py). Nothing is
fetched: mathematics becomes MathML (site/mathml.py), and site/offline.py looks through the result.
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "site")]
sys.path[:0] = [str(HERE.parent)]

import execution  # noqa: E402
import sources  # noqa: E402

import rsam_ref  # noqa: E402

# How the tutorials' names begin. While one works on something else: RSAM_DOCS_TUTORIALS=01.
TUTORIALS = os.environ.get("RSAM_DOCS_TUTORIALS", "[0-9]")

project = "rsam-ref"
author = copyright = "The rsam-ref authors"
version = release = rsam_ref.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.linkcode",
    "mathml",
    "names",
    "sources",
    "tutorials",
    "commands",
    "findings",
    "relatives",
    "tables",
    "teaching",
    "vectors",
]
root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "docs/findings/*.rst",
    "tutorials/README.md",
    f"tutorials/{TUTORIALS}*.py",
    "backends/README.md",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
]
exclude_patterns = [".*", "build", "dist", "runs", "**/__pycache__"]

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

# The tutorials: run where they lie, once, and again when what they use has changed.
nb_custom_formats = {".py": ["tutorials.read", {}]}
execution.own_kernel_settings(HERE.parent)
nb_execution_mode = "cache"
nb_execution_cache_path = str(execution.cache_folder(HERE.parent))
# A tutorial that fails is a warning, and so an error, with its traceback; the others still run.
nb_execution_show_tb = True
nb_execution_timeout = 600
nb_mime_priority_overrides = [("html", "image/gif", 5)]
nb_merge_streams = True

default_role = "name"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 80
linkcode_resolve = sources.link_to_code
# Names that say more than what they stand for; docs/api/README.md explains them.
NAMES = ("Array", "Init", "LossAndGrad", "Number", "Schedule", "Shapes", "Vector")
autodoc_type_aliases = {name: name for name in NAMES}
nitpicky = True
# Named in signatures, and described elsewhere or nowhere.
nitpick_ignore_regex = [
    ("py:.*", r"(collections|contextlib|matplotlib|numpy|optax|pathlib|torch)\..*"),
    ("py:class", r"rsam_ref\.models\.resnet\.(BasicBlock|Bottleneck)"),
    (
        "py:class",
        r"rsam_ref\.(training\.(recipe\.Recipe|exchange\.Loaded)|data\.inputs\.Inputs|data\.feed\.Feed|sharpness\.survey\.SurveySettings)",
    ),
    ("py:class", r"rsam_ref\.training\.(summary\.Group|profiling\.Profile)"),
    ("py:class", r"rsam_ref\.autograd\.tensor\.Node|Entry"),
    ("py:class", r"(.*\.)?[PT]"),  # type variables
    ("py:class", "|".join(NAMES)),
]

html_theme = "furo"
html_title = "rsam-ref"
html_static_path = ["site/static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_show_sourcelink = False
html_copy_source = False
# The summaries of search results would fetch pages, which browsers forbid on file://.
html_show_search_summary = False
html_show_copyright = False
html_theme_options = {"top_of_page_buttons": []}
