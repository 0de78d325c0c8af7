"""Where the tutorials' outputs are kept, and until when.

myst-nb keeps the outputs of a notebook until one of its code cells changes. They also depend on
`style.py`, on the package, and on the libraries; so the cache is a folder that is named by these.
Comments and docstrings are left out, since prose changes no output. Everything else counts: any
other change of the package runs all tutorials anew.
"""

from __future__ import annotations

import ast
import hashlib
import logging
import os
import platform
import shutil
from pathlib import Path

READ = ("tutorials/style.py", "rsam_ref/**/*.py", "backends/**/*.py", "constraints.txt")


def cache_folder(root: Path) -> Path:
    """The cache for the sources as they are; those of earlier sources are removed."""
    caches = root / "build" / "tutorials"
    folder = caches / fingerprint(root)
    for other in caches.glob("*"):
        if other != folder:
            shutil.rmtree(other)
    return folder


def own_kernel_settings(root: Path) -> None:
    """Run kernels without the settings and start-up files of whoever builds, and quietly."""
    profile = root / "build" / "ipython" / "profile_default"
    profile.mkdir(parents=True, exist_ok=True)
    (profile / "ipython_kernel_config.py").write_text("get_config().IPKernelApp.log_level = 40\n")
    os.environ["IPYTHONDIR"] = str(profile.parent)
    logging.getLogger("traitlets").setLevel(logging.WARNING)


def fingerprint(root: Path) -> str:
    digest = hashlib.sha256(platform.python_version().encode())
    for path in sorted(path for pattern in READ for path in root.glob(pattern)):
        digest.update(f"\0{path.relative_to(root)}\0".encode())
        text = path.read_text(encoding="utf-8")
        digest.update((code_of(text) if path.suffix == ".py" else text).encode())
    return digest.hexdigest()[:16]


def code_of(text: str) -> str:
    """What Python makes of a file, without its docstrings."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value = ast.Constant(None)
    return ast.dump(tree)
