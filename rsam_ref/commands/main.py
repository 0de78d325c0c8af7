"""The program `rsam-ref`: its commands, and how an error ends.

Exit codes: 0 done, 1 failed (one line says why), 2 wrong usage, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import rsam_ref
from rsam_ref.commands.between import between
from rsam_ref.commands.check import check
from rsam_ref.commands.compare import compare
from rsam_ref.commands.data import data
from rsam_ref.commands.doctor import doctor
from rsam_ref.commands.evaluate import evaluate
from rsam_ref.commands.explain import explain
from rsam_ref.commands.export import export
from rsam_ref.commands.models import models
from rsam_ref.commands.predict import predict
from rsam_ref.commands.profile import profile
from rsam_ref.commands.ranks import as_a_rank, launched, refuse_ranks
from rsam_ref.commands.sharpness import sharpness
from rsam_ref.commands.summary import summary
from rsam_ref.commands.sweep import sweep
from rsam_ref.commands.terminal import console, fail, interrupted
from rsam_ref.commands.train import train
from rsam_ref.commands.tutorials import tutorials
from rsam_ref.commands.vectors import vectors

UsageError: Any = typer.BadParameter.__mro__[1]
"""What wrong arguments raise: click's, or that of the copy of it that typer holds."""


class Stoppable(TyperGroup):
    """Commands that Ctrl-C ends in one line, where they do not say themselves what is kept.

    So do wrong arguments.
    """

    def make_context(self, *args: Any, **options: Any) -> Any:
        """As every group does, with one line for Ctrl-C while arguments are read."""
        return _or_one_line(super().make_context, *args, **options)

    def invoke(self, ctx: Any) -> Any:
        """As every group does, with one line for Ctrl-C."""
        return _or_one_line(super().invoke, ctx)


def _or_one_line(work: Callable[..., Any], *args: Any, **options: Any) -> Any:
    try:
        return work(*args, **options)
    except KeyboardInterrupt:
        raise interrupted("stopped by Ctrl-C") from None
    except UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            raise
        said = " ".join(error.format_message().split()).rstrip(".")
        of = error.ctx.command_path if error.ctx else "rsam-ref"
        fail(f"{said}; see {of} --help")
        raise typer.Exit(2) from None


app = typer.Typer(
    name="rsam-ref",
    cls=Stoppable,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="SAM and R-SAM, to read, to run, and to hold your own implementation against.",
)


def _version(asked: bool) -> None:
    if asked:
        console.print(f"rsam-ref {rsam_ref.__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    refuse_ranks(context.invoked_subcommand)


FIRST = (compare, explain, doctor, train, predict, evaluate, sweep, summary, export, models)
THEN = (check, profile, sharpness, between, vectors, tutorials)
for command in FIRST + THEN:
    app.command()(command)
app.add_typer(data, name="data")


def main() -> None:
    """The command, alone or as one of the ranks that mpiexec has started."""
    if launched():
        as_a_rank(_main)
    else:
        _main()


def _main() -> None:
    """The command. Errors that a user can mend end in one line and exit code 1."""
    try:
        app()
    except OSError as error:
        what = error.strerror or str(error)
        fail(f"{error.filename}: {what}" if error.filename else what)
    except MemoryError as error:
        fail(f"out of memory ({error}); use smaller batches or models, or fewer --jobs")
    except (ValueError, ArithmeticError, RuntimeError) as error:
        fail(str(error))
    else:
        return
    sys.exit(1)


if __name__ == "__main__":
    main()
