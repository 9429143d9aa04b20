"""The `sbi-aalr` command: the main job, sampling from what it saved, a report.

What is heavy is imported inside the commands, so that `--help` answers at once.
"""

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sbi_aalr import __version__
from sbi_aalr.cli.compare import compare
from sbi_aalr.cli.terminal import (
    show_line,
    show_observations,
    show_problem,
    show_summary,
    show_verdict,
)

_CONTENT = {
    "posterior.safetensors": "the fitted estimator: weights and observation",
    "posterior.json": "the fitted estimator: prior and settings",
    "training.json": "what was fitted, and its loss",
    "chains.nc": "the chains as an ArviZ DataTree",
    "corner.png": "corner plot over the exact posterior",
    "trace_rank.png": "traces and ranks of the chains",
}

_COLORS = {"good": "green", "doubtful": "yellow", "bad": "red", "unknown": ""}


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
                show_problem("Interrupted", "no file is left half-written.", "yellow")
                raise typer.Exit(130) from None
            except (typer.Exit, typer.Abort, BrokenPipeError):
                raise
            except (ValueError, TypeError, RuntimeError, OSError, ImportError) as error:
                # Usage errors are not among these.
                show_problem("Error", error)
                raise typer.Exit(1) from error


app = typer.Typer(
    name="sbi-aalr",
    cls=OneLineErrors,
    add_completion=False,
    rich_markup_mode="markdown",  # "rich" would keep the line breaks of docstrings
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Seed = Annotated[int, typer.Option(help="Makes the run repeatable.")]
Device = Annotated[str, typer.Option(help="Torch device, such as cpu or cuda:0.")]
NumSamples = Annotated[int, typer.Option(help="Posterior draws for each observation.")]


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


@app.command()
def demo(
    num_simulations: Annotated[
        int, typer.Option(help="Simulations to train on; 50000 for a quick look.")
    ] = 1_000_000,
    seed: Seed = 1,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path(
        "runs/slcp"
    ),
    num_samples: NumSamples = 10_000,
    device: Device = "cpu",
) -> None:
    """Run the main job on a benchmark with a known answer.

    Fits AALR on SLCP, draws from the posterior of one observation, shows the summary
    beside the truth, and writes the fitted estimator, the chains and two figures.
    """
    import matplotlib

    from sbi_aalr.cli.demo_run import run_demo

    matplotlib.use("agg")
    result = run_demo(
        out,
        num_simulations=num_simulations,
        seed=seed,
        num_samples=num_samples,
        device=device,
        show_progress_bars=sys.stderr.isatty(),
        on_phase=lambda what: show_line(f"{what} …"),
    )
    show_line("")
    show_summary(result.table, "Posterior of SLCP")
    show_verdict(result.posterior.diagnostics())
    show_line(
        f"Fitted in {result.fit_seconds:.1f} s, sampled in "
        f"{result.sample_seconds:.1f} s. Wrote"
    )
    width = max(len(str(file)) for file in result.files)
    for file in result.files:
        show_line(f"  {file!s:{width}}  {_CONTENT[file.name]}")


@app.command()
def sample(
    run: Annotated[
        Path, typer.Argument(help="Folder of a saved posterior, such as runs/slcp.")
    ],
    x: Annotated[
        Path,
        typer.Option(
            help="CSV file of observations, one a row; a header may be there."
        ),
    ],
    out: Annotated[Path, typer.Option(help="NetCDF file for the chains.")] = Path(
        "samples.nc"
    ),
    num_samples: NumSamples = 10_000,
    num_chains: Annotated[
        int | None,
        typer.Option(help="Chains for each observation.", show_default="as saved"),
    ] = None,
    seed: Seed = 1,
    device: Device = "cpu",
) -> None:
    """Sample the posterior of new observations from a saved run.

    Sampling goes on until R-hat and the effective sample size are good enough, or says
    where they are not. The chains are written as an ArviZ DataTree, with a dimension
    "observation" where the file has several rows. Those are written as they are done,
    and the same command goes on where it was stopped.
    """
    from sbi_aalr import MHPosterior
    from sbi_aalr.cli.csv_rows import read_csv_rows
    from sbi_aalr.files import write_whole

    posterior = MHPosterior.load(run, device=device)
    event_shape = posterior.potential_fn.ratio_estimator.condition_shape
    rows = read_csv_rows(x, event_shape.numel()).reshape(-1, *event_shape)
    if out.is_dir():
        raise IsADirectoryError(f"`out` must be a file, but {out} is a folder.")
    out.parent.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {} if num_chains is None else {"num_chains": num_chains}
    settings |= {"seed": seed, "show_progress_bars": sys.stderr.isatty()}
    if len(rows) == 1:
        posterior.sample((num_samples,), x=rows, **settings)
        tree = posterior.to_datatree()
        write_whole(out, lambda path: tree.to_netcdf(path, engine="h5netcdf"))
        show_summary(posterior.summary(), f"Posterior of {x}")
    else:
        posterior.sample_batched((num_samples,), x=rows, out=out, **settings)
        name = f"Posteriors of {len(rows):,} observations in {x}"
        show_observations(posterior.diagnostics(), name)
    show_verdict(posterior.diagnostics())
    show_line(f"Wrote {out}")


@app.command()
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
        int, typer.Option(help="Simulations for the test of the ratio.")
    ] = 1_000_000,
    seed: Seed = 1,
) -> None:
    """Write one HTML page that says whether to trust a run.

    Shows verdict, summary, figures of posterior and chains, and how to do it again.
    With a simulator, which the demo names itself, the network is checked too.
    """
    import matplotlib

    from sbi_aalr.cli.report_folder import report_folder

    matplotlib.use("agg")
    out = run / "report.html" if out is None else out
    verdict = report_folder(
        run,
        out,
        chains=chains,
        simulator=simulator,
        num_simulations=num_simulations,
        seed=seed,
        on_phase=lambda what: show_line(f"{what} …"),
    )
    show_line(f"{verdict.answer}. {verdict.reason}", _COLORS[verdict.state])
    show_line(f"Wrote {out}")


app.command()(compare)


def _show_warning(
    message: Warning | str, category: type[Warning], *_: Any, **__: Any
) -> None:
    show_problem("Warning", message, "yellow")


def main() -> None:
    """Run the command line."""
    app(prog_name="sbi-aalr")
