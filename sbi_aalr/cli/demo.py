"""The command `sbi-aalr demo`."""

import sys
from typing import Annotated

import typer

from sbi_aalr.cli.options import Device, NumSamples, Seed
from sbi_aalr.cli.terminal import show_line, show_summary, show_verdict


def demo(
    num_simulations: Annotated[
        int, typer.Option(help="Simulations to train on; 50000 for a quick look.")
    ] = 1_000_000,
    seed: Seed = 1,
    out: Annotated[str, typer.Option(help="Folder for the results.")] = "runs/slcp",
    num_samples: NumSamples = 10_000,
    device: Device = "cpu",
) -> None:
    """Run the main job on a benchmark with a known answer.

    Fits AALR on SLCP, draws from the posterior of one observation, shows the summary
    beside the truth, and writes the fitted estimator, the chains and two figures.
    """
    import matplotlib

    from sbi_aalr.cli.demo_run import run_demo
    from sbi_aalr.persistence.run_folder import CONTENT

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
        show_line(f"  {file!s:{width}}  {CONTENT[file.name]}")
