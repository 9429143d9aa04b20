"""The command `sbi-aalr compare`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from sbi_aalr.cli.terminal import show_comparison, show_line, show_problem


def compare(
    tasks: Annotated[
        str,
        typer.Option(
            help="Names of tasks, with commas between; your own as module:name."
        ),
    ] = "slcp,two_moons,gaussian_linear",
    methods: Annotated[
        str, typer.Option(help="Names of methods, with commas between.")
    ] = "aalr,nre_a,nre_b,nre_c,bnre,npe,nle",
    budgets: Annotated[
        str, typer.Option(help="Numbers of simulations, with commas between.")
    ] = "1000,10000,100000",
    observations: Annotated[int, typer.Option(help="Observations for each task.")] = 10,
    seeds: Annotated[str, typer.Option(help="Seeds, with commas between.")] = "1",
    num_samples: Annotated[
        int, typer.Option(help="Posterior draws for each observation.")
    ] = 10_000,
    workers: Annotated[int, typer.Option(help="Processes to spread fits over.")] = 1,
    out: Annotated[str, typer.Option(help="Folder for the results.")] = "runs/compare",
) -> None:
    """Compare AALR with sbi's other methods on tasks with known answers.

    Writes a table with one row a result, as soon as it is there, and figures. The same
    command again goes on where it was stopped. The exit code is 1 if a row has an
    error.
    """
    import matplotlib

    from sbi_aalr.comparison import compare as run
    from sbi_aalr.comparison import summarise
    from sbi_aalr.comparison.rows import TABLE

    matplotlib.use("agg")
    table = run(
        _read_tasks(tasks),
        _split(methods),
        _read_ints("budgets", budgets),
        out=out,
        observations=observations,
        seeds=_read_ints("seeds", seeds),
        num_samples=num_samples,
        workers=workers,
        show_progress_bars=sys.stderr.isatty(),
    )
    show_comparison(summarise(table), "Mean ± sd over observations and seeds")
    path, failed = Path(out) / TABLE, table[table["error"] != ""]
    for number, row in failed.iterrows():
        show_problem("Error", f"row {number} of {path}: {row['error']}")
    show_line(f"Wrote {path} and figures beside it")
    if len(failed):
        raise typer.Exit(1)


def _read_tasks(text: str) -> Any:
    """Names of tasks; with those of the user's, tasks by name."""
    words = _split(text)
    if not any(":" in word for word in words):
        return words
    from sbi_aalr.cli.named_simulator import import_task
    from sbi_aalr.comparison import TASKS

    tasks: dict[str, Any] = {}
    for word in words:
        name = word.rpartition(":")[2]
        if name in tasks:
            raise typer.BadParameter(f"`tasks` must differ in name, got {name} twice.")
        if ":" in word:
            tasks[name] = import_task(word)
        elif word in TASKS:
            tasks[name] = TASKS[word]
        else:
            raise typer.BadParameter(
                f"`tasks` must be module:name or one of {', '.join(TASKS)}, got "
                f"{word!r}."
            )
    return tasks


def _split(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


def _read_ints(name: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(
            f"`{name}` must be whole numbers with commas between, got {text!r}."
        ) from None
