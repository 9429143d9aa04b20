"""Whatever goes wrong in a command is said in one line."""

import sys
import warnings
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from sbi_aalr.cli.terminal import show_problem


class OneLineErrors(TyperGroup):
    """A group of commands in which whatever goes wrong is said in one line.

    Exit codes: 1 for values that the library refuses, 2 for options that do not exist
    or cannot be read, 130 for Ctrl-C.
    """

    def main(
        self,
        args: Sequence[str] | None = None,
        *others: Any,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run with the arguments given, or with those of the process."""
        given = list(sys.argv[1:] if args is None else args) or ["--help"]
        try:
            # Else typer would report errors, and in a way of its own, before they
            # come here.
            extra["standalone_mode"] = False
            code = super().main(given, *others, **extra)
        except Exception as error:
            # typer has no public name for the base class of its usage errors.
            if not hasattr(error, "format_message"):
                raise
            show_problem("Error", error.format_message())
            code = 2
        if standalone_mode:
            sys.exit(code)
        return code

    def invoke(self, ctx: Any) -> Any:
        """Run the command chosen."""
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            try:
                return super().invoke(ctx)
            except KeyboardInterrupt:
                # Where it came into an `exec`, as dataclasses of an import are made by,
                # `python -m` would end by the signal whatever the exit code, unless
                # another `exec` went well.
                exec("")
                show_problem("Interrupted", "no file is left half-written.", "yellow")
                raise typer.Exit(130) from None
            except (typer.Exit, typer.Abort, BrokenPipeError):
                raise
            except (ValueError, TypeError, RuntimeError, OSError, ImportError) as error:
                # Usage errors are not among these.
                show_problem("Error", error)
                raise typer.Exit(1) from error


def _show_warning(
    message: Warning | str, category: type[Warning], *_: Any, **__: Any
) -> None:
    show_problem("Warning", message, "yellow")
