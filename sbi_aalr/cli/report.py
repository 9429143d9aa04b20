"""The command `sbi-aalr report`."""

from pathlib import Path
from typing import Annotated

import typer

from sbi_aalr.cli.options import Prior, Seed
from sbi_aalr.cli.terminal import show_line

_COLORS = {"good": "green", "doubtful": "yellow", "bad": "red", "unknown": ""}


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a run, such as runs/slcp.")],
    out: Annotated[
        Path | None,
        typer.Option(help="HTML file to write.", show_default="report.html in the run"),
    ] = None,
    chains: Annotated[
        Path | None,
        typer.Option(
            help="NetCDF file of chains.", show_default="chains.nc in the run"
        ),
    ] = None,
    simulator: Annotated[
        str | None,
        typer.Option(
            help="Simulator to check the network with, as module:name.",
            show_default="the demo's, if it is the demo's run",
        ),
    ] = None,
    num_simulations: Annotated[
        int | None,
        typer.Option(
            help="Simulations for the test of the ratio.",
            show_default="as in MHPosterior.report",
        ),
    ] = None,
    prior: Prior = None,
    seed: Seed = 1,
) -> None:
    """Write one HTML page that says whether to trust a run.

    Shows verdict, summary, figures of posterior and chains, and how to do it again.
    With a simulator, which the demo names itself, the network is checked too.
    """
    import matplotlib

    from sbi_aalr.cli.report_folder import report_folder
    from sbi_aalr.persistence.run_folder import REPORT

    matplotlib.use("agg")
    out = run / REPORT if out is None else out
    budget = {} if num_simulations is None else {"num_simulations": num_simulations}
    verdict = report_folder(
        run,
        out,
        chains=chains,
        simulator=simulator,
        prior=prior,
        seed=seed,
        on_phase=lambda what: show_line(f"{what} …"),
        **budget,
    )
    show_line(f"{verdict.answer}. {verdict.reason}", _COLORS[verdict.state])
    show_line(f"Wrote {out}")
