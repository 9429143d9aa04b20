"""The command `sbi-aalr sample`."""

import contextlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from sbi_aalr.cli.options import (
    Classifier,
    Device,
    EmbeddingNet,
    NumSamples,
    ParameterNames,
    Prior,
    Seed,
    split_names,
)
from sbi_aalr.cli.terminal import (
    show_line,
    show_observations,
    show_summary,
    show_verdict,
)


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
    prior: Prior = None,
    classifier: Classifier = None,
    embedding_net: EmbeddingNet = None,
    parameter_names: ParameterNames = None,
    seed: Seed = 1,
    device: Device = "cpu",
) -> None:
    """Sample the posterior of new observations from a saved run.

    Sampling goes on until R-hat and the effective sample size are good enough, or says
    where they are not. The chains are written as an ArviZ DataTree, with a dimension
    "observation" where the file has several rows. What is done is kept, and the same
    command goes on where it was stopped; a file that is there already is left alone.
    """
    from sbi_aalr.checks import check_positive_int
    from sbi_aalr.cli.heartbeat import heartbeat
    from sbi_aalr.cli.named_simulator import import_parts
    from sbi_aalr.cli.progress_lines import show_duration
    from sbi_aalr.files import check_output_file
    from sbi_aalr.persistence.csv_rows import read_csv_rows
    from sbi_aalr.persistence.run_store import SUFFIXES
    from sbi_aalr.posterior import MHPosterior

    num_samples = check_positive_int("num_samples", num_samples)
    posterior = MHPosterior.load(
        run,
        **import_parts(prior, classifier, embedding_net),
        parameter_names=split_names(parameter_names),
        device=device,
    )
    event_shape = posterior.potential_fn.ratio_estimator.condition_shape
    header: list[str] = []
    rows = read_csv_rows(x, event_shape.numel(), on_header=header.append)
    rows = rows.reshape(-1, *event_shape)
    check_output_file("out", out, SUFFIXES)
    for line in header:
        show_line(f"Skipped the header of {x}: {line}")
    out.parent.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {} if num_chains is None else {"num_chains": num_chains}
    is_terminal = sys.stderr.isatty()
    settings |= {"seed": seed, "show_progress_bars": is_terminal}
    is_single = len(rows) == 1
    draw = posterior.sample if is_single else posterior.sample_batched
    many = "1 observation" if is_single else f"{len(rows):,} observations"

    def tell(seconds: float) -> str:
        return f"Sampling {many} for {show_duration(seconds)}"

    lines = contextlib.nullcontext() if is_terminal else heartbeat(show_line, tell)
    with lines:
        draw((num_samples,), x=rows, out=out, **settings)
    if is_single:
        show_summary(posterior.summary(), f"Posterior of {x}")
    else:
        name = f"Posteriors of {len(rows):,} observations in {x}"
        show_observations(posterior.diagnostics(), name)
    show_verdict(posterior.diagnostics())
    show_line(f"Wrote {out}")
