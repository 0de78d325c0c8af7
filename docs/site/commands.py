"""The directive `commands`: the help of every command, as the commands themselves print it.

Commands and options are entered in the index, so that the site's search finds them by their names.
"""

from __future__ import annotations

from docutils import nodes
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective
from typer import Context
from typer.main import get_command

from rsam_ref.commands.main import app as program


def contexts() -> dict[str, Context]:
    """Every command, `rsam-ref train` say, as it is when it is called."""
    found = {}

    def walk(command, parent, name):
        context = command.make_context(
            name, [], parent=parent, resilient_parsing=True, terminal_width=88
        )
        found[context.command_path] = context
        for inner in getattr(command, "commands", {}).items():
            walk(inner[1], context, inner[0])

    walk(get_command(program), None, "rsam-ref")
    return found


def helps() -> dict[str, str]:
    """For every command what --help prints at 88 columns."""
    return {name: context.command.get_help(context) for name, context in contexts().items()}


def names(context: Context) -> list[str]:
    """What a command is looked for by: its name, and its options without --help."""
    flags = [flag for option in context.command.params for flag in [*option.opts]]
    options = [flag for flag in flags if flag.startswith("--") and flag != "--help"]
    return [context.command_path.removeprefix("rsam-ref "), *options]


class Commands(SphinxDirective):
    def run(self):
        made = []
        for name, context in contexts().items():
            text = context.command.get_help(context)
            section = nodes.section(ids=[nodes.make_id(name)], names=[name])
            section += nodes.title("", "", nodes.literal(name, name))
            anchor = section["ids"][0]
            entries = [("single", word, anchor, "main", None) for word in names(context)]
            section += addnodes.index(entries=entries)
            section += nodes.literal_block(text, text, language="text")
            made.append(section)
        return made


def setup(app):
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
