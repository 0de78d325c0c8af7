"""The directive `commands`: the help of every command, as the commands themselves print it."""

from __future__ import annotations

from docutils import nodes
from sphinx.util.docutils import SphinxDirective
from typer.main import get_command

from rsam_ref.commands.main import app as program


def helps() -> dict[str, str]:
    """For every command, `rsam-ref train` say, what --help prints at 88 columns."""
    found = {}

    def walk(command, parent, name):
        context = command.make_context(
            name, [], parent=parent, resilient_parsing=True, terminal_width=88
        )
        found[context.command_path] = command.get_help(context)
        for inner in getattr(command, "commands", {}).items():
            walk(inner[1], context, inner[0])

    walk(get_command(program), None, "rsam-ref")
    return found


class Commands(SphinxDirective):
    def run(self):
        made = []
        for name, text in helps().items():
            section = nodes.section(ids=[nodes.make_id(name)], names=[name])
            section += nodes.title("", "", nodes.literal(name, name))
            section += nodes.literal_block(text, text, language="text")
            made.append(section)
        return made


def setup(app):
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
