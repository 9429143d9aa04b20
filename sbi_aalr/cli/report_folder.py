"""Read what `sbi-aalr demo` and `sbi-aalr sample` leave in a folder, and report on it.

A folder holds a saved posterior and chains; `training.json` says how the posterior was
fitted and on which simulator. With that one, if this package knows it, or with one that
the user names, the checks that need a simulator are run.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sbi_aalr.checks import check_non_negative_int, check_positive_int
from sbi_aalr.cli.named_simulator import find_known, import_simulator
from sbi_aalr.posterior.mh_posterior import MHPosterior
from sbi_aalr.report.checks import QUICK, run_checks
from sbi_aalr.report.evidence import Evidence
from sbi_aalr.report.page import check_path, show_value, write_report
from sbi_aalr.report.verdicts import Verdict

_NUM_EXACT_DRAWS = 10_000
_CHAINS = "chains.nc"


def report_folder(
    folder: str | Path,
    out: str | Path,
    *,
    chains: str | Path | None = None,
    simulator: str | None = None,
    num_simulations: int = 1_000_000,
    seed: int = 1,
    on_phase: Callable[[str], object] = lambda what: None,
) -> Verdict:
    """Write a report about the chains in a run's folder.

    Args:
        folder: A folder that `sbi-aalr demo` or `MHPosterior.save` wrote.
        out: The HTML file to write.
        chains: A NetCDF file of chains from that posterior; by default `chains.nc` in
            the folder, or the only NetCDF file that is there.
        simulator: Where to import the simulator from, `package.module:name`; see
            `import_simulator`. By default the one that `training.json` names.
        num_simulations: Budget of the checks.
        seed: Makes the checks repeatable.
        on_phase: Called with a few words at the start of each part of the work.

    Returns:
        The verdict at the top of the page.

    Raises:
        FileNotFoundError: If the folder holds no saved posterior or no chains.
        ImportError: If the simulator cannot be imported.
        TypeError: If it is no simulator.
        ValueError: If a file is damaged, or the chains are not from this posterior.
    """
    check_positive_int("num_simulations", num_simulations)
    check_non_negative_int("seed", seed)
    folder, out = Path(folder), check_path(out)
    task = None if simulator is None else import_simulator(simulator)
    posterior = MHPosterior.load(folder)
    path = _find_chains(folder, chains)
    tree = _read_chains(path)
    history = _read_history(folder)
    prior = posterior.potential_fn.prior
    width = len(tree["posterior"]["parameter"])
    if prior.event_shape[0] != width:
        raise ValueError(
            f"`chains` must have the {prior.event_shape[0]} parameters of the "
            f"posterior in {folder}, got {width} in {path}."
        )
    task = task or find_known(history.get("simulator"))
    truth, reference = _read_truth(tree, width), None
    if task is not None and task.sample_posterior is not None:
        observed = tree["observed_data"]["x"]
        if "observation" not in observed.dims and "trial" not in observed.dims:
            on_phase("Sampling the exact posterior")
            x_o = np.array(observed.values)
            reference = task.sample_posterior(_NUM_EXACT_DRAWS, x_o, seed=seed).numpy()
    checks, tree = run_checks(
        tree,
        posterior,
        posterior.potential_fn.ratio_estimator,
        None if task is None else task.simulate,
        prior,
        truth=truth,
        num_simulations=num_simulations,
        seed=seed,
        on_phase=on_phase,
        **QUICK,
    )
    evidence = Evidence(
        tree=tree,
        title=f"Run {folder}" if path.name == _CHAINS else f"Run {folder}, {path.name}",
        truth=truth,
        reference=reference,
        training={
            name: history.get(name, []) for name in ("training_loss", "validation_loss")
        },
        facts=_list_facts(history),
        commands=_list_commands(
            folder, path, out, history, simulator, num_simulations, seed
        ),
        checks=checks,
    )
    return write_report(evidence, out, on_phase=on_phase)


def _find_chains(folder: Path, chains: str | Path | None) -> Path:
    if chains is not None:
        path = Path(chains)
        if not path.is_file():
            raise FileNotFoundError(f"`chains` must be a NetCDF file, got {path}.")
        return path
    if (folder / _CHAINS).is_file():
        return folder / _CHAINS
    found = sorted(folder.glob("*.nc"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise FileNotFoundError(
            f"`folder` must hold {_CHAINS} or one other NetCDF file, but {folder} has "
            f"{names}. Sample with `sbi-aalr sample`, or choose one with `--chains`."
        )
    return found[0]


def _read_chains(path: Path) -> xr.DataTree:
    try:
        with xr.open_datatree(path, engine="h5netcdf") as stored:
            tree = stored.load()
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is no NetCDF file of chains: {error}.") from error
    for group in ("posterior", "observed_data"):
        if group not in tree.children:
            raise ValueError(
                f"{path} must have the groups `posterior` and `observed_data`, got "
                f"{sorted(tree.children)}. Write it with `to_datatree`."
            )
    return tree


def _read_truth(tree: xr.DataTree, width: int) -> Any:
    """True parameters, where the chains know them."""
    if "true_parameters" not in tree.attrs:
        return None
    truth = np.array(tree.attrs["true_parameters"], dtype=float)
    return truth if truth.shape == (width,) else None


def _read_history(folder: Path) -> dict[str, Any]:
    path = folder / "training.json"
    if not path.is_file():
        return {}
    try:
        history = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    if not isinstance(history, dict):
        raise ValueError(f"{path} is damaged: it must hold an object.")
    return history


def _list_facts(history: dict[str, Any]) -> dict[str, str]:
    names = {
        "simulator": "Simulator",
        "num_simulations": "Simulations for the fit",
        "fit_seconds": "Seconds of the fit",
    }
    facts = {}
    for name, words in names.items():
        value = history.get(name)
        if value is not None:
            facts[words] = show_value(value)
    return facts


def _list_commands(
    folder: Path,
    chains: Path,
    out: Path,
    history: dict[str, Any],
    simulator: str | None,
    num_simulations: int,
    seed: int,
) -> str:
    lines = []
    if {"num_simulations", "num_samples", "seed"} <= history.keys():
        lines.append(
            f"sbi-aalr demo --num-simulations {history['num_simulations']} --seed "
            f"{history['seed']} --num-samples {history['num_samples']} --out {folder}"
        )
    report = f"sbi-aalr report {folder} --out {out} --seed {seed}"
    report += f" --num-simulations {num_simulations}"
    if chains != folder / _CHAINS:
        report += f" --chains {chains}"
    if simulator is not None:
        report += f" --simulator {simulator}"
    return "\n".join([*lines, report])
