"""`compare`: every method on every task, at every budget, with every seed."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from sbi_aalr.comparison.rows import (
    METRICS,
    ROWS,
    TABLE,
    Key,
    read_rows,
    read_table,
    write_table,
)
from sbi_aalr.comparison.tasks import (
    OBSERVATIONS,
    TASKS,
    Task,
    adapt_task,
    check_same_task,
)
from sbi_aalr.comparison.unit import Unit, run_unit
from sbi_aalr.files import (
    check_output_folder,
    check_replaceable,
    read_sealed,
    write_sealed,
)

if TYPE_CHECKING:
    import pandas as pd

_SETTINGS = "settings.json"
_OUTPUTS = (ROWS, TABLE, *(f"{name}.png" for name in (*METRICS, "wall_time")))


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

    A name stands for one method in a folder: give one that you changed another name.

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
        TypeError: If a count is no int, a task has no prior or simulator, or a method
            is no `Method`.
        ValueError: If a name is unknown or not made of letters, digits and
            underscores, there is none, a count is not positive, a budget is below the
            rounds of a method, or `out` holds a comparison with another number of draws
            or another task of the same name, a damaged one, or files of the same names
            that are of none, or a task's prior or simulator cannot be used.
        OSError: If `out` is a file, or cannot be written to, or the disk is full; rows
            that are done are kept, and the same call goes on from there.
        MemoryError: If memory runs out; as for `OSError`.

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
        name: adapt_task(name, task() if isinstance(task, type) else task)
        for name, task in _resolve("tasks", tasks, TASKS).items()
    }
    chosen_methods = _resolve("methods", methods, METHODS)
    for name, method in chosen_methods.items():
        if not isinstance(method, Method):
            raise TypeError(
                f"`methods` must be of class `Method`, got {method!r} for {name!r}."
            )
    budgets = _list_numbers("budgets", budgets, check_positive_int)
    for name, method in chosen_methods.items():
        if budgets[0] < method.rounds:
            raise ValueError(
                f"`budgets` must have a simulation for each of the {method.rounds} "
                f"rounds of {name!r}, got {budgets[0]}."
            )
    seeds = _list_numbers("seeds", seeds, check_seed)
    observations = check_positive_int("observations", observations)
    num_samples = check_positive_int("num_samples", num_samples)
    if workers is not None:
        workers = check_positive_int("workers", workers)
    folder = check_output_folder("out", out)
    check_replaceable("out", folder, _OUTPUTS, _has_settings)
    _check_settings(folder, num_samples)
    for name, adapted in chosen_tasks.items():
        check_same_task(folder / OBSERVATIONS, name, adapted)
    folder.mkdir(parents=True, exist_ok=True)
    _write_settings(folder, num_samples)

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
    try:
        _run_all(units, workers, show_progress_bars)
        write_table(folder)
        table = read_table(folder)
        save_figures(table, folder)
    except OSError as error:
        message = f"{error.strerror or error} Rows that are done are kept in {folder}, "
        message += "and the same call goes on from there."
        raise OSError(error.errno or 0, message) from error
    return table


def _run_all(
    units: Sequence[Unit], workers: int | None, show_progress_bars: bool
) -> None:
    # Not `n_jobs=1`, which would override a backend chosen around this call.
    parallel = Parallel(n_jobs=workers, return_as="generator_unordered")
    with tqdm(
        total=len(units), desc="Comparing", unit=" fits", disable=not show_progress_bars
    ) as bar:
        for _ in parallel(delayed(run_unit)(unit) for unit in units):
            bar.update()


def _resolve(
    name: str, given: Sequence[str] | Mapping[str, Any], known: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what was given, or what its names stand for."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(f"`{name}` must be a sequence of names, got {given!r}.")
    if not given:
        raise ValueError(f"`{name}` must have at least one name, got {given!r}.")
    if not isinstance(given, Mapping):
        return {key: known[check_choice(name, key, known)] for key in given}
    for key in given:
        if not re.fullmatch(r"\w+", str(key)):
            raise ValueError(
                f"`{name}` must be named with letters, digits and underscores, as "
                f"files are called after them, got {key!r}."
            )
    return dict(given)


def _list_numbers(
    name: str, given: object, check: Callable[[str, Any], int]
) -> list[int]:
    """Return whole numbers, each once and in order."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(f"`{name}` must be a sequence of whole numbers, got {given!r}.")
    numbers = sorted({check(name, number) for number in given})
    if not numbers:
        raise ValueError(f"`{name}` must have at least one number, got {given!r}.")
    return numbers


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


def _has_settings(folder: Path) -> bool:
    return (folder / _SETTINGS).is_file()


def _check_settings(folder: Path, num_samples: int) -> None:
    """Raise if what all rows in a folder have in common is not that."""
    path = folder / _SETTINGS
    if not path.is_file():
        return
    found = read_sealed(path)
    if not isinstance(found.get("num_samples"), int) or "sbi_aalr" not in found:
        raise ValueError(
            f"{path} is damaged, or of no comparison: `num_samples` or `sbi_aalr` is "
            "missing. Choose another folder to begin anew."
        )
    if found["num_samples"] != num_samples:
        raise ValueError(
            f"`num_samples` must be {found['num_samples']} as in the comparison in "
            f"{folder}, got {num_samples}. Choose another folder to begin anew."
        )


def _write_settings(folder: Path, num_samples: int) -> None:
    """Write down what all rows have in common, before there is any."""
    if not _has_settings(folder):
        settings = {
            "num_samples": num_samples,
            "sbi_aalr": __version__,
            "sbi": version("sbi"),
            "torch": version("torch"),
        }
        write_sealed(folder / _SETTINGS, settings)
