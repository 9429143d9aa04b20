"""The command `sbi-aalr demo`."""

import sys
from typing import Annotated

import typer

from sbi_aalr.cli.options import TIME_LIMIT, Device, NumSamples, Seed
from sbi_aalr.cli.terminal import show_line, show_summary, show_verdict

# For the report; `sbi-aalr report` takes more.
_CHECK_SIMULATIONS = 20_000


def demo(
    num_simulations: Annotated[
        int, typer.Option(help="Simulations to train on; 50000 for a quick look.")
    ] = 1_000_000,
    seed: Seed = 1,
    out: Annotated[str, typer.Option(help="Folder for the results.")] = "runs/slcp",
    num_samples: NumSamples = 10_000,
    device: Device = "cpu",
    time_limit: Annotated[
        float, typer.Option(help="Seconds of fitting at most, simulations included.")
    ] = TIME_LIMIT,
) -> None:
    """Run the main job on a benchmark with a known answer.

    Fits AALR on SLCP, draws from the posterior of one observation, shows the summary
    beside the truth, and writes the fitted estimator, the chains, two figures and a
    report. Ctrl-C ends the fit early, and the rest is done with what was learnt. The
    exit code is then 130.
    """
    import matplotlib

    from sbi_aalr.cli.demo_run import run_demo
    from sbi_aalr.cli.report import show_answer
    from sbi_aalr.cli.report_folder import report_folder
    from sbi_aalr.persistence.run_folder import CONTENT, REPORT

    matplotlib.use("agg")
    is_watched = sys.stderr.isatty()
    result = run_demo(
        out,
        num_simulations=num_simulations,
        seed=seed,
        num_samples=num_samples,
        device=device,
        time_limit=time_limit,
        show_progress_bars=is_watched,
        on_phase=lambda what: show_line(f"{what} …"),
        on_progress=None if is_watched else lambda what: show_line(f"  {what}"),
    )
    folder = result.files[0].parent
    show_line("Checking the network, for a report …")
    page = folder / REPORT
    answer = report_folder(
        folder,
        page,
        num_simulations=_CHECK_SIMULATIONS,
        seed=seed,
        on_phase=lambda what: show_line(f"  {what} …"),
    )
    files = (*result.files, page)
    show_line("")
    show_summary(result.table, "Posterior of SLCP")
    show_verdict(result.posterior.diagnostics())
    show_line(
        f"Fitted in {result.fit_seconds:.1f} s, sampled in "
        f"{result.sample_seconds:.1f} s. Wrote"
    )
    width = max(len(str(file)) for file in files)
    for file in files:
        show_line(f"  {file!s:{width}}  {CONTENT[file.name]}")
    show_line("")
    show_answer(answer)
    if result.is_interrupted:
        raise typer.Exit(130)
