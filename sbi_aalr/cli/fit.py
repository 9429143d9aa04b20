"""The command `sbi-aalr fit`."""

import contextlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from sbi_aalr.cli.executors import Scheduler, Workers, open_executor
from sbi_aalr.cli.options import (
    Device,
    EmbeddingNet,
    OnError,
    Prior,
    Seed,
    split_names,
)
from sbi_aalr.cli.terminal import show_line

# Where streamed simulations go, in the folder of the run.
_STORE = "simulations.zarr"


def fit(
    store: Annotated[
        Path | None,
        typer.Argument(
            help="Store of simulations, such as sbi-aalr simulate fills. With a "
            "simulator it is filled, and may be left out."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the fitted posterior.")] = Path(
        "runs/fit"
    ),
    simulator: Annotated[
        str | None,
        typer.Option(
            help="Simulate while training: the simulator as module:name.",
            show_default="train on what is in the store",
        ),
    ] = None,
    num_simulations: Annotated[
        int, typer.Option(help="Simulations to make with a simulator.")
    ] = 100_000,
    workers: Workers = None,
    scheduler: Scheduler = None,
    on_error: OnError = "skip",
    prior: Prior = None,
    parameter_names: Annotated[
        str | None,
        typer.Option(
            help="Names of the parameters, with commas between.",
            show_default="theta_1, theta_2 and so on",
        ),
    ] = None,
    embedding_net: EmbeddingNet = None,
    time_limit: Annotated[
        float | None,
        typer.Option(
            help="Seconds after which training ends.", show_default="no limit"
        ),
    ] = None,
    checkpoint_every: Annotated[
        float, typer.Option(help="Seconds from one checkpoint to the next.")
    ] = 60.0,
    resume: Annotated[
        bool, typer.Option(help="Go on where the same command was stopped.")
    ] = True,
    seed: Seed = 1,
    device: Device = "cpu",
) -> None:
    """Fit the posterior to the simulations in a store, or to those made meanwhile.

    Data may be larger than memory. Where some simulations failed, the posterior takes
    into account how often they do at which parameters. The folder is one that
    `sbi-aalr sample` and `sbi-aalr report` take. The same command goes on where it was
    stopped, by a kill too, and gives the same posterior.
    """
    from sbi_aalr import AALR
    from sbi_aalr.checks import check_positive_int, check_seed
    from sbi_aalr.cli.fit_store import begin_store, find_prior, open_store
    from sbi_aalr.cli.heartbeat import heartbeat
    from sbi_aalr.cli.named_simulator import (
        CalledByName,
        import_embedding_net,
        import_simulator,
    )
    from sbi_aalr.cli.progress_lines import show_duration
    from sbi_aalr.persistence.checkpoint_files import remove_checkpoint
    from sbi_aalr.persistence.posterior_folder import check_posterior_folder
    from sbi_aalr.persistence.run_folder import POSTERIOR_SETTINGS
    from sbi_aalr.persistence.training_json import LOSSES, write_training
    from sbi_aalr.report.stack_figure import summarise_stack
    from sbi_aalr.trainer.describe import describe_estimator

    seed = check_seed("seed", seed)
    num_simulations = check_positive_int("num_simulations", num_simulations)
    # Before the long part: a folder that cannot be made should not cost a fit.
    check_posterior_folder(out)
    if (out / POSTERIOR_SETTINGS).exists():
        show_line(f"The posterior in {out} will be replaced.")
    if simulator is not None:
        function = CalledByName(import_simulator(simulator).simulate, simulator)
        if store is None:
            out.mkdir(parents=True, exist_ok=True)
        simulations = begin_store(store or out / _STORE, prior)
    elif store is None:
        raise ValueError("`store` must be given, or a simulator: `--simulator`.")
    else:
        simulations = open_store(store)
    distribution = find_prior(simulations, prior)
    is_terminal = sys.stderr.isatty()
    trainer = AALR(
        distribution,
        device=device,
        show_progress_bars=is_terminal,
        parameter_names=split_names(parameter_names),
        embedding_net_x=None
        if embedding_net is None
        else import_embedding_net(embedding_net),
    )
    kept: dict[str, Any] = {
        "checkpoint": out,
        "checkpoint_every": checkpoint_every,
        "resume": resume,
        "seed": seed,
        "time_limit": time_limit,
    }

    def tell(seconds: float) -> str:
        made = f", {len(simulations):,} simulations made" if simulator else ""
        return f"Training for {show_duration(seconds)}{made}"

    lines = contextlib.nullcontext() if is_terminal else heartbeat(show_line, tell)
    if simulator is None:
        trainer.append_simulations(simulations)
        count = len(simulations)
        show_line(f"Fitting AALR to {count:,} simulations of {store} …")
        with lines:
            trainer.train(**kept)
    else:
        show_line(f"Fitting AALR to {num_simulations:,} simulations of {simulator} …")
        with lines, open_executor(workers, scheduler) as executor:
            trainer.train_online(
                function,
                num_simulations,
                store=simulations,
                executor=executor,
                on_error=on_error,
                **kept,
            )
    folder = trainer.build_posterior().save(out)
    last = trainer.summary["recipe"][-1]
    stack = summarise_stack(trainer.summary)
    known, seconds = simulations.describe(), trainer.summary["fit_seconds"]
    training = {
        "simulator": known["simulator"] or "unknown",
        "num_simulations": known["num_simulations"],
        "num_failures": known["num_failures"],
        "seed": seed,
        "fit_seconds": round(last.get("stack_seconds", seconds[-1]), 1),
        **{name: trainer.summary[name] for name in LOSSES},
        **({} if stack is None else {"stack": stack}),
    }
    write_training(folder, training)
    remove_checkpoint(folder)
    show_line(f"Estimator: {describe_estimator(trainer)}.")
    show_line(f"Fitted in {training['fit_seconds']} s. Wrote {folder}")
