"""The role of `single backticks` in docstrings: a link where the name is known, else just code."""

from docutils import nodes
from sphinx.domains.python import PyXRefRole

PREFIXES = ("rsam_ref", "rsam_ref.models", "rsam_ref.data", "rsam_ref.sharpness", "rsam_backends")


class Name(PyXRefRole):
    def process_link(self, env, refnode, has_explicit_title, title, target):
        refnode["rsam_name"] = True
        refnode["refdomain"], refnode["reftype"] = "py", "obj"
        return super().process_link(env, refnode, has_explicit_title, title, target)


def resolve(app, env, node, contnode):
    if not node.get("rsam_name"):
        return None
    domain = env.domains["py"]
    for prefix in PREFIXES:
        name = f"{prefix}.{node['reftarget']}"
        if name in domain.objects:
            found = node.copy()
            found["reftarget"] = name
            return domain.resolve_xref(
                env, node["refdoc"], app.builder, "obj", name, found, contnode
            )
    return nodes.literal("", "", *contnode.children, classes=["name"])


def setup(app):
    app.add_role("name", Name(warn_dangling=False))
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
