"""How Sphinx builds these pages; ``docs/build.py`` calls it."""

from __future__ import annotations

import sys
from pathlib import Path

import bzz

sys.path.insert(0, str(Path(__file__).parent))

project = "bzz"
author = "the bzz maintainers"
project_copyright = "2026, the bzz maintainers"
release = version = bzz.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.doctest", "myst_parser", "signal_reference"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"bzz {release}"
default_role = "code"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
# There are two Limits, and bzz.api imports its own late: Sphinx takes the right one, and wonders.
suppress_warnings = ["ref.python"]
autodoc_default_options = {"members": True, "show-inheritance": True}
# Other projects' inventories are on the network, and a build must not need one: only our own names resolve.
nitpick_ignore_regex = [
    ("py:.*", r"(?!bzz\b).*"),
    # Names of types that annotations mention, and that are nobody's business outside.
    ("py:.*", r"bzz\.(model|connection|storage|page|documents|updates)\b.*"),
    ("py:.*", r"bzz\.(\w+\.F|registry\.Registry|batch\.directory\.Target)"),
    ("py:.*", r"bzz\.dispatcher\.(connection|registry)\..*"),
    ("py:.*", r"bzz\.http\.(gate|lean)\..*"),
    ("py:.*", r"bzz\.resource\.(access|nested|page|preview|rows)\b.*"),
    ("py:.*", r"bzz\.batch\.trial"),
    ("py:.*", r"bzz\.delivery\.audience\..*"),
]

# The examples inside docstrings run with the tests; here run those of the pages.
doctest_test_doctest_blocks = ""
doctest_global_setup = "from playground import request, serve, fresh; fresh()"
doctest_global_cleanup = "from playground import end; end()"
