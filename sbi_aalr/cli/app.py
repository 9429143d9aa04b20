"""The `sbi-aalr` command: a new subcommand is one file here and one line below.

What is heavy is imported inside the commands, so that `--help` answers at once.
"""

from typing import Annotated

import typer

from sbi_aalr._version import __version__
from sbi_aalr.cli.compare import compare
from sbi_aalr.cli.demo import demo
from sbi_aalr.cli.errors import OneLineErrors
from sbi_aalr.cli.fit import fit
from sbi_aalr.cli.report import report
from sbi_aalr.cli.sample import sample
from sbi_aalr.cli.simulate import simulate
from sbi_aalr.cli.terminal import show_line

app = typer.Typer(
    name="sbi-aalr",
    cls=OneLineErrors,
    add_completion=False,
    rich_markup_mode="markdown",  # "rich" would keep the line breaks of docstrings
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (demo, simulate, fit, sample, report, compare):
    app.command()(command)


def _show_version(wanted: bool) -> None:
    if wanted:
        show_line(f"sbi-aalr {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_show_version,
            is_eager=True,
            help="Show the version and exit.",
        ),
    ] = False,
) -> None:
    """Likelihood-free MCMC with amortized approximate ratio estimators."""


def main() -> None:
    """Run the command line."""
    app(prog_name="sbi-aalr")
