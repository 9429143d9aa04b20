"""The command `sbi-aalr simulate`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from sbi_aalr.cli.executors import Scheduler, Workers, open_executor
from sbi_aalr.cli.options import OnError, Seed
from sbi_aalr.cli.terminal import show_line


def simulate(
    simulator: Annotated[
        str,
        typer.Argument(help="The simulator as module:name, such as my_model:simulate."),
    ],
    prior: Annotated[str, typer.Option(help="The prior as module:name.")],
    num_simulations: Annotated[
        int, typer.Option(help="Simulations that there are to be in the end.")
    ],
    out: Annotated[Path, typer.Option(help="Store to write to, a folder.")] = Path(
        "sims.zarr"
    ),
    workers: Workers = None,
    scheduler: Scheduler = None,
    batch_size: Annotated[
        int, typer.Option(help="Simulations that a worker does at a time.")
    ] = 100,
    timeout: Annotated[
        float | None,
        typer.Option(
            help="Seconds after which a batch is ended.", show_default="no limit"
        ),
    ] = None,
    retries: Annotated[
        int, typer.Option(help="How often what failed is tried again.")
    ] = 1,
    on_error: OnError = "skip",
    seed: Seed = 1,
) -> None:
    """Fill a store with simulations, on all cores or on a cluster.

    The same command goes on where it was stopped, by a kill too: what is in the store
    is not simulated again. With a larger number of simulations it adds to them; another
    seed adds as many of its own.
    Simulations that raise, hang, return NaN or kill their process are set aside with
    their parameters and what went wrong.
    """
    from sbi_aalr.checks import check_positive_int
    from sbi_aalr.cli.named_simulator import import_prior, import_simulator
    from sbi_aalr.cli.progress_lines import SimulationProgress
    from sbi_aalr.persistence.prior_json import encode_prior
    from sbi_aalr.simulation import SimulationStore, fill_store

    function = import_simulator(simulator).simulate
    distribution = import_prior(prior)
    if workers is not None:
        workers = check_positive_int("workers", workers)
    store = SimulationStore(out)
    facts: dict[str, Any] = {"simulator": simulator}
    if (described := encode_prior(distribution)) is not None:
        facts["prior"] = described
    done = sum(map(sum, store.find_batches(seed).values()))
    if done:
        show_line(f"{out} holds {done:,} of these simulations already.")
    with (
        open_executor(workers, scheduler) as executor,
        SimulationProgress(num_simulations, done) as progress,
    ):
        account = fill_store(
            store,
            function,
            distribution,
            num_simulations,
            batch_size=batch_size,
            seed=seed,
            executor=executor,
            timeout=timeout,
            num_retries=retries,
            on_error=on_error,
            facts=facts,
            on_batch=lambda account: progress.update(*account),
        )
    show_line(
        f"{out} holds {account.num_simulations:,} simulations of seed {seed}, of which "
        f"{account.num_failures:,} failed."
    )
    store.require_rows()
    usable = len(store)
    if usable != account.num_simulations - account.num_failures:
        show_line(f"With those of other seeds it holds {usable:,} that did not fail.")
