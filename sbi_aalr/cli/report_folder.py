"""Report on the folder of a run, which `sbi-aalr demo` writes.

It holds a saved posterior and chains, which may lie elsewhere too; `training.json` says
how the posterior was fitted and on which simulator. With that one, if this package
knows it, or with one that the user names, the checks that need a simulator are run.
"""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sbi_aalr.checks import check_positive_int, check_seed
from sbi_aalr.cli.named_simulator import (
    find_known,
    import_parts,
    import_simulator,
)
from sbi_aalr.persistence.csv_rows import read_csv_rows
from sbi_aalr.persistence.run_folder import CHAINS, find_chains
from sbi_aalr.persistence.run_store import read_run
from sbi_aalr.persistence.training_json import LOSSES, read_training
from sbi_aalr.posterior import MHPosterior
from sbi_aalr.report.checks import NUM_SIMULATIONS, SEED
from sbi_aalr.report.evidence import CI_PROB
from sbi_aalr.report.page import check_path, show_value
from sbi_aalr.report.run_report import report_run
from sbi_aalr.report.verdicts import Verdict
from sbi_aalr.sampling import Run

_NUM_EXACT_DRAWS = 10_000
_TRAINING = (*LOSSES, "stack")


def report_folder(
    folder: str | Path,
    out: str | Path,
    *,
    chains: str | Path | None = None,
    simulator: str | None = None,
    prior: str | None = None,
    classifier: str | None = None,
    embedding_net: str | None = None,
    parameter_names: Sequence[str] | None = None,
    truth: str | None = None,
    title: str | None = None,
    num_simulations: int = NUM_SIMULATIONS,
    seed: int = SEED,
    ci_prob: float = CI_PROB,
    exclude_invalid_x: bool = False,
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
        prior: Where to import the prior from, in the same way, where the folder does
            not hold it; see `import_prior`.
        classifier: Where to import the builder of the network from, where it was your
            own; see `import_classifier`.
        embedding_net: Where to import the net of the data from, where one was given;
            see `import_embedding_net`.
        parameter_names: One name a parameter; by default those saved.
        truth: True parameters with commas between, or a CSV file with a row an
            observation; by default those that the run knows.
        title: Heading of the page; by default the folder.
        num_simulations: Budget of the checks.
        seed: Makes the checks repeatable.
        ci_prob: Probability of the intervals on the page.
        exclude_invalid_x: Simulate again where the simulator gives NaN or infinity.
        on_phase: Called with a few words at the start of each part of the work.

    Returns:
        The verdict at the top of the page.

    Raises:
        FileNotFoundError: If the folder holds no saved posterior or no chains.
        ImportError: If the simulator or the prior cannot be imported.
        TypeError: If it is no simulator, or no prior.
        ValueError: If a file is damaged, or the chains are not from this posterior.
    """
    num_simulations = check_positive_int("num_simulations", num_simulations)
    seed = check_seed("seed", seed)
    folder, out = Path(folder), check_path(out, "out")
    task = None if simulator is None else import_simulator(simulator)
    training = read_training(folder)
    posterior = MHPosterior.load(
        folder,
        **import_parts(prior, classifier, embedding_net),
        parameter_names=parameter_names,
    )
    path = find_chains(folder, chains)
    run = read_run(path, posterior.target)
    task = task or find_known(training.get("simulator"))
    reference = None
    is_single = not run.batched and len(run.observed) == 1
    if task is not None and task.sample_posterior is not None and is_single:
        on_phase("Sampling the exact posterior")
        x_o = run.observed[0].numpy()
        reference = task.sample_posterior(_NUM_EXACT_DRAWS, x_o, seed=seed)
    return report_run(
        run,
        out,
        settings=posterior.parameters,
        simulator=None if task is None else task.simulate,
        truth=_read_truth(run) if truth is None else _parse_truth(truth, run),
        parameter_names=parameter_names,
        reference=reference,
        training={name: training[name] for name in _TRAINING if name in training},
        title=title or _make_title(folder, path),
        facts=_list_facts(training),
        commands=_list_commands(
            folder,
            training,
            {
                "--out": out,
                "--seed": seed,
                "--num-simulations": num_simulations,
                "--chains": None if path == folder / CHAINS else path,
                "--simulator": simulator,
                "--prior": prior,
                "--classifier": classifier,
                "--embedding-net": embedding_net,
                "--parameter-names": None
                if parameter_names is None
                else ",".join(parameter_names),
                "--truth": truth,
                "--title": title,
                "--ci-prob": None if ci_prob == CI_PROB else ci_prob,
                "--exclude-invalid-x": "" if exclude_invalid_x else None,
            },
        ),
        num_simulations=num_simulations,
        seed=seed,
        ci_prob=ci_prob,
        exclude_invalid_x=exclude_invalid_x,
        on_phase=on_phase,
    )


def _make_title(folder: Path, path: Path) -> str:
    return f"Run {folder}" if path.name == CHAINS else f"Run {folder}, {path.name}"


def _parse_truth(text: str, run: Run) -> Any:
    """Numbers with commas between, or the rows of a CSV file."""
    try:
        return np.array([float(part) for part in text.split(",")])
    except ValueError:
        pass
    if not Path(text).is_file():
        raise ValueError(
            "`truth` must be numbers with commas between, or a CSV file with a row an "
            f"observation, got {text!r}."
        )
    return read_csv_rows(text, run.chains.theta.shape[-1])


def _read_truth(run: Run) -> Any:
    """True parameters, where the run knows them."""
    try:
        truth = np.array(run.settings.get("true_parameters", []), float)
    except (TypeError, ValueError):
        return None
    return truth if truth.shape == run.chains.theta.shape[-1:] else None


def _list_facts(training: dict[str, Any]) -> dict[str, str]:
    names = {
        "simulator": "Simulator",
        "num_simulations": "Simulations for the fit",
        "fit_seconds": "Seconds of the fit",
    }
    facts = {}
    for name, words in names.items():
        value = training.get(name)
        if value is not None:
            facts[words] = show_value(value)
    return facts


def _list_commands(
    folder: Path, training: dict[str, Any], options: dict[str, Any]
) -> str:
    """Commands to paste into a shell, which takes every value as it is."""
    lines: list[list[Any]] = []
    names = ("num_simulations", "seed", "num_samples")
    if training.keys() >= set(names):
        words: list[Any] = ["sbi-aalr", "demo"]
        for name in names:
            words += [f"--{name.replace('_', '-')}", training[name]]
        lines.append([*words, "--out", folder])
    words = ["sbi-aalr", "report", folder]
    for name, value in options.items():
        if value is not None:
            words += [name] if value == "" else [name, value]
    return "\n".join(shlex.join(map(_write_word, words)) for words in [*lines, words])


def _write_word(value: object) -> str:
    """A word of a command; a path that begins with a dash would be an option."""
    is_dashed = isinstance(value, Path) and str(value).startswith("-")
    return f"./{value}" if is_dashed else str(value)
