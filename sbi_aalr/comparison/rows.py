"""The table on disk: one file a row, each whole or absent, and one CSV of them all.

Workers on many machines can write at once, and a run that is killed loses no row.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from sbi_aalr.files import check_path, read_sealed, write_sealed, write_text

if TYPE_CHECKING:
    import pandas as pd

METRICS = (
    "c2st",
    "mmd",
    "roc_auc",
    "ratio_roc_auc",
    "log_prob_true",
    "coverage",
    "coverage_level",
    "train_seconds",
    "sample_seconds",
    "num_evaluations",
    "min_ess",
    "max_rhat",
    "peak_memory",
)
ROWS = "rows"
TABLE = "table.csv"


class Key(NamedTuple):
    """What identifies a row."""

    task: str
    method: str
    budget: int
    observation: int
    seed: int


COLUMNS = (*Key._fields, *METRICS, "error")
_KINDS = {
    **Key.__annotations__,
    **dict.fromkeys(METRICS, int | float | None),
    "error": str,
}


def write_row(
    folder: Path, key: Key, metrics: Mapping[str, float], error: str = ""
) -> None:
    """Write one row, and the table anew.

    Args:
        folder: Folder of the comparison.
        key: What the row is about.
        metrics: Values by name, of those in `METRICS`; others stay empty.
        error: What went wrong, if anything.
    """
    row = {**key._asdict(), **metrics, "error": error}
    path = _locate(folder, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_sealed(path, row, indent=None)
    write_table(folder)


def has_row(folder: Path, key: Key) -> bool:
    """Whether a row is there."""
    return _locate(folder, key).exists()


def _locate(folder: Path, key: Key) -> Path:
    return folder / ROWS / f"{'-'.join(map(str, key))}.json"


def read_rows(folder: Path) -> dict[Key, dict[str, Any]]:
    """Read all rows that are there, by key.

    Raises:
        ValueError: If a file is damaged.
    """
    rows = {}
    for path in sorted((folder / ROWS).glob("*.json")):
        row = read_sealed(path, must_be_finite=False)
        for name, kind in _KINDS.items():
            if not isinstance(row.get(name), kind):
                raise ValueError(f"{path} is damaged: `{name}` is missing or wrong.")
        key = Key(*(row[name] for name in Key._fields))
        if path != _locate(folder, key):
            raise ValueError(f"{path} is damaged: it holds the row of {key}.")
        rows[key] = row
    return rows


def read_table(folder: str | Path) -> "pd.DataFrame":
    """Read the rows of a comparison, also while it runs.

    Args:
        folder: Folder of the comparison.

    Returns:
        One row a (task, method, budget, observation, seed) and one column a metric;
        `error` is empty where all went well.
    """
    import pandas as pd

    rows = read_rows(check_path("folder", folder))
    table = pd.DataFrame([rows[key] for key in sorted(rows)], columns=list(COLUMNS))
    return table.astype(dict.fromkeys(METRICS, float))


def check_table(name: str, table: object) -> "pd.DataFrame":
    """Return a table of a comparison, or raise if it is none."""
    columns = getattr(table, "columns", ())
    missing = [column for column in COLUMNS if column not in columns]
    if missing:
        raise TypeError(
            f"`{name}` must be a table that `compare` or `read_table` returned, got "
            f"{type(table).__name__} without a column {missing[0]!r}."
        )
    return cast("pd.DataFrame", table)


def write_table(folder: Path) -> Path:
    """Write all rows that are there as `table.csv`."""
    return write_text(folder / TABLE, read_table(folder).to_csv(index=False))
