"""Build the site, strictly, look through it for what would need a network, and try its search.

    python docs/build.py [options of sphinx-build]

Any warning, a broken link and a tutorial that fails are errors.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs" / "site"))


TO_THE_FIRST_PAGE = (
    '<!doctype html><title>rsam-ref</title><meta http-equiv="refresh" content="0; '
    'url=docs/index.html"><a href="docs/index.html">rsam-ref</a>\n'
)


def main(options: list[str]) -> int:
    try:
        from sphinx.cmd.build import main as sphinx_build
    except ImportError:
        print("the site needs Sphinx: pip install -c constraints.txt -e '.[docs]'", file=sys.stderr)
        return 2
    import offline
    import search

    site, trees = ROOT / "build" / "site", ROOT / "build" / "doctrees"
    # All pages are made anew, since many are made of the code; the tutorials' outputs are kept.
    shutil.rmtree(site, ignore_errors=True)
    strict = ["--fresh-env", "--fail-on-warning", "--keep-going", "--nitpicky", "--quiet"]
    where = ["-c", str(ROOT / "docs"), "-d", str(trees), str(ROOT), str(site)]
    if failed := sphinx_build([*strict, *options, *where]):
        return failed
    (site / "index.html").write_text(TO_THE_FIRST_PAGE, encoding="utf-8")
    wrong = offline.look_through(site) + search.not_found(site)
    for line in wrong:
        print(line, file=sys.stderr)
    if not wrong:
        print(f"The site is built. Open it: {site / 'index.html'}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
