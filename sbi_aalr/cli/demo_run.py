"""The main job on a benchmark with a known answer: fit, sample, check, write down.

Hermans, Begy & Louppe (2020), arXiv:1903.04057, Algorithms 1 and 2 on SLCP.
"""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from sbi_aalr.checks import (
    check_device,
    check_positive_float,
    check_positive_int,
    check_seed,
)
from sbi_aalr.cli.heartbeat import heartbeat
from sbi_aalr.cli.options import TIME_LIMIT
from sbi_aalr.diagnostics import (
    add_predictive,
    plot_corner,
    plot_trace_rank,
    summary,
)
from sbi_aalr.diagnostics.run_tree import run_to_datatree
from sbi_aalr.files import (
    check_output_folder,
    check_replaceable,
    write_figure,
    write_together,
)
from sbi_aalr.persistence.run_folder import (
    CHAINS,
    CORNER,
    POSTERIOR_SETTINGS,
    POSTERIOR_WEIGHTS,
    REPORT,
    TRACE_RANK,
    TRAINING,
)
from sbi_aalr.persistence.run_store import write_chains
from sbi_aalr.persistence.training_json import read_training, write_training
from sbi_aalr.posterior import MHPosterior
from sbi_aalr.report.page import is_report
from sbi_aalr.report.stack_figure import summarise_stack
from sbi_aalr.simulators import SLCP
from sbi_aalr.trainer import AALR

if TYPE_CHECKING:
    import pandas as pd

_NUM_EXACT_DRAWS = 10_000
_NAME = "slcp"
# What it is of comes last, as it is removed last.
_FILES = (
    CHAINS,
    CORNER,
    TRACE_RANK,
    POSTERIOR_SETTINGS,
    POSTERIOR_WEIGHTS,
    TRAINING,
)


class DemoResult(NamedTuple):
    """What the demo found, and what it wrote.

    Attributes:
        posterior: The posterior, with its chains and the observation as default x.
        table: ArviZ's summary with the truth beside, one row a parameter.
        x_o: The observation, shape `(1, 8)`.
        fit_seconds: Wall time of the fit, simulations included.
        sample_seconds: Wall time of the sampling.
        files: The files written.
        is_interrupted: Whether Ctrl-C ended the fit before its time.
    """

    posterior: MHPosterior
    table: "pd.DataFrame"
    x_o: Tensor
    fit_seconds: float
    sample_seconds: float
    files: tuple[Path, ...]
    is_interrupted: bool = False


def run_demo(
    out: str | Path,
    *,
    num_simulations: int = 1_000_000,
    seed: int = 1,
    num_samples: int = 10_000,
    device: str = "cpu",
    time_limit: float | None = TIME_LIMIT,
    show_progress_bars: bool = True,
    on_phase: Callable[[str], object] = lambda what: None,
    on_progress: Callable[[str], object] | None = None,
) -> DemoResult:
    """Fit AALR on SLCP, sample the posterior of one observation, and write both down.

    The observation is simulated at SLCP's true parameters. The estimator is
    written as soon as it is fitted, the rest at the end; each file appears whole or not
    at all. An earlier demo in the folder is removed when the new estimator is written;
    files that are of none are never replaced. Ctrl-C while it is fitted ends the fit
    alone: what was learnt until then is sampled and written all the same.

    Args:
        out: Folder to write to, made if needed: `posterior.safetensors` and
            `posterior.json` (see `MHPosterior.load`), `training.json`, `chains.nc`,
            `corner.png` and `trace_rank.png`.
        num_simulations: Budget of Algorithm 1, in simulations.
        seed: Makes the run repeatable.
        num_samples: Posterior draws.
        device: Where to train and sample.
        time_limit: Seconds of fitting at most, simulations included; None for no limit.
        show_progress_bars: Whether to show progress.
        on_phase: Called with a few words at the start of each part of the work.
        on_progress: Called every half minute of the fit, with words on how far it is.

    Returns:
        The posterior, the summary table and the paths of the files.

    Raises:
        TypeError: If a count is no int.
        KeyboardInterrupt: If Ctrl-C was pressed before the first step of the fit, or
            after the fit.
        ValueError: If a count or limit is not positive, the seed is negative or the
            device does not work; if `out` holds files of these names that no demo
            wrote.
        OSError: If `out` is a file, or cannot be made or written to.

    Warns:
        ConvergenceWarning: If the chains did not converge; the files are written all
            the same.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     result = run_demo(
        ...         folder, num_simulations=2_000, time_limit=5,
        ...         show_progress_bars=False,
        ...     )
        >>> [file.name for file in result.files]
        ['posterior.safetensors', 'posterior.json', 'training.json', 'chains.nc',
         'corner.png', 'trace_rank.png']
    """
    num_simulations = check_positive_int("num_simulations", num_simulations)
    num_samples = check_positive_int("num_samples", num_samples)
    seed = check_seed("seed", seed)
    check_device("device", device)
    if time_limit is not None:
        time_limit = check_positive_float("time_limit", time_limit)
    # Before the long part: a folder that cannot be made should not cost a fit.
    folder = check_output_folder("out", out)
    check_replaceable("out", folder, _FILES, _is_of_demo)
    folder.mkdir(parents=True, exist_ok=True)

    slcp = SLCP(device)
    # Drawn on the CPU, so that it is the same on every device.
    truth = slcp.true_parameters.cpu()
    generator = torch.Generator().manual_seed(seed)
    x_o = slcp.simulate(truth[None], generator=generator)

    most = "" if time_limit is None else f", for {time_limit:g} s at most"
    on_phase(f"Fitting AALR on {num_simulations:,} simulations of SLCP{most}")
    started = time.perf_counter()
    trainer = AALR(slcp.prior, device=device, show_progress_bars=show_progress_bars)
    is_interrupted = _fit(
        trainer,
        _Counted(slcp.simulate),
        {"num_simulations": num_simulations, "seed": seed, "time_limit": time_limit},
        on_progress,
    )
    fitted = time.perf_counter()
    if is_interrupted:
        on_phase("Interrupted: going on with what was learnt; Ctrl-C again to stop")
    on_phase("Sampling the posterior of one observation")
    posterior = trainer.build_posterior().set_default_x(x_o)
    training = {
        "simulator": _NAME,
        "num_simulations": num_simulations,
        "num_samples": num_samples,
        "seed": seed,
        "fit_seconds": round(fitted - started, 1),
        "training_loss": trainer.summary["training_loss"],
        "validation_loss": trainer.summary["validation_loss"],
    }
    if (stack := summarise_stack(trainer.summary)) is not None:
        training["stack"] = stack
    # The fit at once, lest it be lost with what comes after it. An earlier demo is
    # removed when the disk has taken the new fit, so that nothing is of two runs.
    # What it is of is written first.
    write_together(
        folder,
        lambda new: (write_training(new, training), posterior.save(new)),
        lambda: _remove_earlier(folder),
    )
    posterior.sample((num_samples,), seed=seed, show_progress_bars=show_progress_bars)
    sampled = time.perf_counter()

    on_phase("Drawing figures beside the exact posterior")
    run: Any = posterior.run
    tree = run_to_datatree(run)
    tree = add_predictive(tree, slcp.simulate, slcp.prior, seed=seed)
    tree.attrs["num_simulations"] = num_simulations
    tree.attrs["true_parameters"] = truth.tolist()
    exact = slcp.sample_posterior(_NUM_EXACT_DRAWS, x_o, seed=seed)
    corner = plot_corner(tree, truth=truth, reference=exact, label="AALR")
    files = (
        folder / POSTERIOR_WEIGHTS,
        folder / POSTERIOR_SETTINGS,
        folder / TRAINING,
        write_chains(folder / CHAINS, tree, run.target),
        write_figure(folder / CORNER, corner),
        write_figure(folder / TRACE_RANK, plot_trace_rank(tree)),
    )
    return DemoResult(
        posterior=posterior,
        table=summary(tree, truth=truth),
        x_o=x_o,
        fit_seconds=fitted - started,
        sample_seconds=sampled - fitted,
        files=files,
        is_interrupted=is_interrupted,
    )


class _Counted:
    """A simulator that counts."""

    def __init__(self, simulate: Callable[[Tensor], Tensor]) -> None:
        self.count = 0
        self._simulate = simulate

    def __call__(self, theta: Tensor) -> Tensor:
        self.count += len(theta)
        return self._simulate(theta)


def _fit(
    trainer: AALR,
    simulate: _Counted,
    options: dict[str, Any],
    on_progress: Callable[[str], object] | None,
) -> bool:
    """Fit, and say whether it was interrupted after the first step."""
    wanted, limit = options["num_simulations"], options["time_limit"]
    told = {"made": 0}

    def tell(seconds: float) -> str:
        of = f"{seconds:.0f} s" + ("" if limit is None else f" of {limit:g} s at most")
        # A few more find out how the simulator is to be called.
        made = min(simulate.count, wanted)
        what = "training goes on with them" if made == told["made"] else "simulating"
        told["made"] = made
        return f"{of}: {made:,} of {wanted:,} simulations made, {what}"

    beating = (
        contextlib.nullcontext()
        if on_progress is None
        else heartbeat(on_progress, tell)
    )
    threads = torch.get_num_threads()
    # Several wait for one another at every step, and for whoever else has a core.
    torch.set_num_threads(1)
    try:
        with beating:
            trainer.train_online(simulate, **options)
    except KeyboardInterrupt:
        if not trainer.summary["training_loss"]:
            raise
        return True
    finally:
        torch.set_num_threads(threads)
    return False


def _is_of_demo(folder: Path) -> bool:
    try:
        return read_training(folder).get("simulator") == _NAME
    except ValueError:
        return False


def _remove_earlier(folder: Path) -> None:
    """Remove what an earlier demo wrote, and the report about it."""
    report = folder / REPORT
    if report.is_file() and is_report(report):
        report.unlink()
    for name in _FILES:
        (folder / name).unlink(missing_ok=True)
