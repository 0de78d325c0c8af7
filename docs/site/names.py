"""Docstrings: `single backticks` are a link where the name is known, else code; headings."""

import importlib
import inspect

from docutils import nodes
from sphinx.domains.python import PyXRefRole
from sphinx.util import logging
from sphinx.util.inspect import TypeAliasForwardRef

PREFIXES = (
    "rsam_ref",
    "rsam_ref.models",
    "rsam_ref.data",
    "rsam_ref.sharpness",
    "rsam_ref.conformance",
    "rsam_backends",
)
"""The packages whose public names all have an entry."""

USED = (
    *PREFIXES,
    "rsam_ref.nn",
    "rsam_ref.nn.objective",
    "rsam_ref.nn.passes",
    "rsam_ref.nn.shards",
    "rsam_ref.autograd.op",
    "rsam_ref.algorithms.optimizer",
    "rsam_ref.algorithms.base",
    "rsam_ref.algorithms.optimizers",
    "rsam_ref.algorithms.protocol",
    "rsam_ref.algorithms.variants",
    "rsam_ref.algorithms.schedules",
    "rsam_ref.algorithms.noise",
)
"""Whose names docstrings use as they are."""


class Name(PyXRefRole):
    def process_link(self, env, refnode, has_explicit_title, title, target):
        refnode["rsam_name"] = True
        refnode["refdomain"], refnode["reftype"] = "py", "obj"
        return super().process_link(env, refnode, has_explicit_title, title, target)


def resolve(app, env, node, contnode):
    if not node.get("rsam_name"):
        return None
    domain = env.domains["py"]
    for prefix in USED:
        name = f"{prefix}.{node['reftarget']}"
        if name in domain.objects:
            found = node.copy()
            found["reftarget"] = name
            return domain.resolve_xref(
                env, node["refdoc"], app.builder, "obj", name, found, contnode
            )
    return nodes.literal("", "", *contnode.children, classes=["name"])


def whole(app, env):
    """Warn of a public name that has no entry in the API."""
    for package in PREFIXES:
        module = importlib.import_module(package)
        for name in module.__all__:
            thing = getattr(module, name)
            places = {f"{prefix}.{name}" for prefix in PREFIXES}  # use_backend is told once
            if not places & env.domains["py"].objects.keys() and not inspect.ismodule(thing):
                logging.getLogger(__name__).warning("no entry in docs/api for %s.%s", package, name)


def plain_headings(app, what, name, thing, options, lines):
    """Let an underlined heading of a docstring ("Parameters") be a heading inside an entry."""
    for i in range(len(lines) - 1):
        if lines[i].strip() and lines[i + 1].strip("-") == "" and len(lines[i + 1]) > 2:
            lines[i : i + 2] = [f".. rubric:: {lines[i]}", ""]


def ops_on_tensors(app, what, name, thing, options, arguments, returned):
    """Show an op as it is called, with tensors; its source is a definition on arrays."""
    ours = name.startswith(("rsam_ref.autograd.ops.", "rsam_ref.autograd.ops_nn."))
    if not ours or not hasattr(thing, "__wrapped__"):
        return None
    return arguments.replace("Array", "Tensor"), "Tensor"


def plain_factories(app, what, name, thing, options, arguments, returned):
    """Show a dataclass's default that is made anew as `...`, which can be read as Python."""
    return (arguments or "").replace("<factory>", "...") or arguments, returned


# autodoc's own stand-in for a name such as `Vector`; in `Vector | None` it shows its repr.
TypeAliasForwardRef.__repr__ = lambda self: self.name


def setup(app):
    app.add_role("name", Name(warn_dangling=False))
    app.connect("missing-reference", resolve)
    app.connect("env-check-consistency", whole)
    app.connect("autodoc-process-docstring", plain_headings)
    app.connect("autodoc-process-signature", ops_on_tensors, priority=400)
    app.connect("autodoc-process-signature", plain_factories)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
