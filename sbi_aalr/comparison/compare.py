"""`compare`: every method on every task, at every budget, with every seed."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from joblib import Parallel, delayed
from tqdm.auto import tqdm

from sbi_aalr._version import __version__
from sbi_aalr.checks import (
    check_choice,
    check_positive_int,
    check_seed,
)
from sbi_aalr.comparison.figures import save_figures
from sbi_aalr.comparison.methods import METHODS, Method
from sbi_aalr.comparison.rows import Key, read_rows, read_table, write_table
from sbi_aalr.comparison.tasks import TASKS, Task
from sbi_aalr.comparison.unit import Unit, run_unit
from sbi_aalr.files import write_json

if TYPE_CHECKING:
    import pandas as pd

_SETTINGS = "settings.json"


def compare(
    tasks: Sequence[str] | Mapping[str, Task],
    methods: Sequence[str] | Mapping[str, Method],
    budgets: Sequence[int],
    *,
    out: str | Path,
    observations: int = 10,
    seeds: Sequence[int] = (1,),
    num_samples: int = 10_000,
    workers: int | None = None,
    show_progress_bars: bool = True,
) -> "pd.DataFrame":
    """Compare methods on tasks, and write down each result as soon as it is there.

    One fit serves all observations of its task, method, budget and seed; a method with
    rounds is fitted for each. What is in the folder already is not done again, so that
    a run that was stopped, by SIGKILL even, goes on where it was.

    A fit is that of a script which seeds the global generators, draws from the prior,
    simulates, makes the trainer and trains it; they are seeded again before each
    observation is sampled. Methods with the same seed see the same simulations.

    Args:
        tasks: Names in `TASKS`, or tasks of your own by name.
        methods: Names in `METHODS`, or methods of your own by name.
        budgets: Numbers of simulations.
        out: Folder to write to, made if needed: `table.csv` with one row a (task,
            method, budget, observation, seed), figures, and what is needed to go on.
        observations: Observations for each task, the same for every method.
        seeds: Seeds of simulations, training and sampling.
        num_samples: Posterior draws for each observation.
        workers: Processes to spread fits over; None for what `joblib.parallel_config`
            says, one by default. Threads are shared out among them.
        show_progress_bars: Whether to show fits done.

    Returns:
        The table; see `read_table`.

    Raises:
        TypeError: If a count is no int.
        ValueError: If a name is unknown or not made of letters, digits and
            underscores, a count is not positive, or `out` holds a comparison with
            another number of draws.
        OSError: If `out` is a file, or cannot be made.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     table = compare(
        ...         ["two_moons"], ["npe"], [100], out=folder, observations=1,
        ...         num_samples=100, show_progress_bars=False,
        ...     )
        >>> table[["task", "method", "budget", "observation", "seed"]].values.tolist()
        [['two_moons', 'npe', 100, 1, 1]]
    """
    chosen_tasks = {
        name: task() if isinstance(task, type) else task
        for name, task in _resolve("tasks", tasks, TASKS).items()
    }
    chosen_methods = _resolve("methods", methods, METHODS)
    budgets = sorted({check_positive_int("budgets", budget) for budget in budgets})
    seeds = sorted({check_seed("seeds", seed) for seed in seeds})
    check_positive_int("observations", observations)
    check_positive_int("num_samples", num_samples)
    if workers is not None:
        check_positive_int("workers", workers)
    folder = Path(out)
    if folder.is_file():
        raise NotADirectoryError(f"`out` must be a folder, but {folder} is a file.")
    folder.mkdir(parents=True, exist_ok=True)
    _check_settings(folder, num_samples)

    finished = read_rows(folder)
    # The small budgets first, so that there is something to look at soon.
    grid = product(budgets, seeds, chosen_tasks, chosen_methods)
    units = [
        Unit(
            folder=folder,
            task_name=task,
            task=chosen_tasks[task],
            method_name=method,
            method=chosen_methods[method],
            budget=budget,
            seed=seed,
            observations=missing,
            num_samples=num_samples,
        )
        for budget, seed, task, method in grid
        for missing in _list_missing(
            Key(task, method, budget, 0, seed),
            chosen_methods[method],
            observations,
            finished,
        )
    ]
    # Not `n_jobs=1`, which would override a backend chosen around this call.
    parallel = Parallel(n_jobs=workers, return_as="generator_unordered")
    with tqdm(
        total=len(units), desc="Comparing", unit=" fits", disable=not show_progress_bars
    ) as bar:
        for _ in parallel(delayed(run_unit)(unit) for unit in units):
            bar.update()
    write_table(folder)
    table = read_table(folder)
    save_figures(table, folder)
    return table


def _resolve(
    name: str, given: Sequence[str] | Mapping[str, Any], known: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what was given, or what its names stand for."""
    if isinstance(given, str):
        raise TypeError(f"`{name}` must be a sequence of names, got {given!r}.")
    if not isinstance(given, Mapping):
        return {key: known[check_choice(name, key, known)] for key in given}
    for key in given:
        if not re.fullmatch(r"\w+", key):
            raise ValueError(
                f"`{name}` must be named with letters, digits and underscores, as "
                f"files are called after them, got {key!r}."
            )
    return dict(given)


def _list_missing(
    key: Key, method: Method, observations: int, finished: Mapping[Key, Any]
) -> Iterator[tuple[int, ...]]:
    """Yield the observations still to do, by the fits that they take."""
    missing = tuple(
        index
        for index in range(1, observations + 1)
        if key._replace(observation=index) not in finished
    )
    if method.rounds > 1:
        yield from ((index,) for index in missing)
    elif missing:
        yield missing


def _check_settings(folder: Path, num_samples: int) -> None:
    """Write down what all rows have in common, or raise if it is not that."""
    path = folder / _SETTINGS
    if path.exists():
        found = json.loads(path.read_text())["num_samples"]
        if found != num_samples:
            raise ValueError(
                f"`num_samples` must be {found} as in the comparison in {folder}, got "
                f"{num_samples}. Choose another folder to begin anew."
            )
        return
    settings = {
        "num_samples": num_samples,
        "sbi_aalr": __version__,
        "sbi": version("sbi"),
        "torch": version("torch"),
    }
    write_json(path, settings)
