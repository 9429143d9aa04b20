"""The command `sbi-aalr report`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sbi_aalr.cli.options import (
    Classifier,
    EmbeddingNet,
    ParameterNames,
    Prior,
    Seed,
    split_names,
)
from sbi_aalr.cli.terminal import show_line

if TYPE_CHECKING:
    from sbi_aalr.report.verdicts import Verdict

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
    classifier: Classifier = None,
    embedding_net: EmbeddingNet = None,
    parameter_names: ParameterNames = None,
    truth: Annotated[
        str | None,
        typer.Option(
            help="True parameters, with commas between, or a CSV file with a row an "
            "observation.",
            show_default="the demo's, if it is the demo's run",
        ),
    ] = None,
    title: Annotated[
        str | None,
        typer.Option(help="Heading of the page.", show_default="the folder"),
    ] = None,
    ci_prob: Annotated[
        float | None,
        typer.Option(
            help="Probability of the intervals on the page, such as 0.94.",
            show_default="as in MHPosterior.report",
        ),
    ] = None,
    exclude_invalid_x: Annotated[
        bool,
        typer.Option(
            "--exclude-invalid-x",
            help="Simulate again where the simulator gives NaN or infinity.",
        ),
    ] = False,
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
    given = {"num_simulations": num_simulations, "ci_prob": ci_prob}
    chosen: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
    verdict = report_folder(
        run,
        out,
        chains=chains,
        simulator=simulator,
        prior=prior,
        classifier=classifier,
        embedding_net=embedding_net,
        parameter_names=split_names(parameter_names),
        truth=truth,
        title=title,
        seed=seed,
        exclude_invalid_x=exclude_invalid_x,
        on_phase=lambda what: show_line(f"{what} …"),
        **chosen,
    )
    show_answer(verdict)
    show_line(f"Wrote {out}")


def show_answer(verdict: "Verdict") -> None:
    """Show in one line whether to trust a run."""
    show_line(f"{verdict.answer}. {verdict.reason}", _COLORS[verdict.state])
