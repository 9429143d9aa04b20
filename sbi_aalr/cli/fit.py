"""The command `sbi-aalr fit`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from sbi_aalr.cli.options import Device, Prior, Seed
from sbi_aalr.cli.terminal import show_line


def fit(
    store: Annotated[
        Path,
        typer.Argument(help="Store of simulations, such as sbi-aalr simulate fills."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the fitted posterior.")] = Path(
        "runs/fit"
    ),
    prior: Prior = None,
    time_limit: Annotated[
        float | None,
        typer.Option(
            help="Seconds after which training ends.", show_default="no limit"
        ),
    ] = None,
    seed: Seed = 1,
    device: Device = "cpu",
) -> None:
    """Fit the posterior to the simulations in a store.

    Data may be larger than memory. Where some simulations failed, the posterior takes
    into account how often they do at which parameters. The folder is one that
    `sbi-aalr sample` and `sbi-aalr report` take.
    """
    from sbi_aalr import AALR
    from sbi_aalr.checks import check_seed
    from sbi_aalr.cli.fit_store import find_prior, open_store
    from sbi_aalr.persistence.posterior_folder import check_posterior_folder
    from sbi_aalr.persistence.training_json import write_training

    seed = check_seed("seed", seed)
    simulations = open_store(store)
    distribution = find_prior(simulations, prior)
    # Before the long part: a folder that cannot be made should not cost a fit.
    check_posterior_folder(out)
    trainer = AALR(distribution, device=device, show_progress_bars=sys.stderr.isatty())
    trainer.append_simulations(simulations)
    known = simulations.describe()
    show_line(f"Fitting AALR to {known['num_simulations']:,} simulations of {store} …")
    trainer.train(seed=seed, time_limit=time_limit)
    folder = trainer.build_posterior().save(out)
    losses = {
        name: trainer.summary[name] for name in ("training_loss", "validation_loss")
    }
    training = {
        "simulator": known["simulator"] or "unknown",
        "num_simulations": known["num_simulations"],
        "num_failures": known["num_failures"],
        "seed": seed,
        "fit_seconds": round(sum(trainer.summary["fit_seconds"]), 1),
        **losses,
    }
    write_training(folder, training)
    show_line(
        f"Fitted in {training['fit_seconds']} s, to a held-out loss of "
        f"{min(losses['validation_loss']):.3f} nats. Wrote {folder}"
    )
