"""Read a CSV file of numbers, one row an observation, and say which cell is wrong.

pandas' reader takes a tenth of the time, but even at its strictest it names the line in
one of 11 wrong files, where this one names all (`benchmarks/own_parts.py`), and lets
infinity pass; it does not find out whether there is a header. By default it makes NaN
of empty cells, of `NA`, and of what is missing at the end of a row.
"""

import csv
import math
from pathlib import Path

import torch
from torch import Tensor


def read_csv_rows(path: str | Path, width: int) -> Tensor:
    """Read rows of numbers.

    A first line without any number in it is a header. Empty lines, and lines that begin
    with `#`, are passed over.

    Args:
        path: A file in UTF-8, values separated by commas.
        width: Values in each row.

    Returns:
        The rows, shape `(B, width)`, float32.

    Raises:
        OSError: If the file is missing or cannot be read.
        ValueError: If there is no row, or one has another width or a value that is no
            finite number; the message names the line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"`x` must be a CSV file, but {path} is not a file.")
    rows: list[list[float]] = []
    is_first = True
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for cells in reader:
                cells = [cell.strip() for cell in cells]
                if not any(cells) or cells[0].startswith("#"):
                    continue
                is_header = is_first and all(_parse(cell) is None for cell in cells)
                is_first = False
                if not is_header:
                    where = f"{path}, line {reader.line_num}"
                    rows.append(_read_row(cells, width, where))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a CSV file in UTF-8: {error}.") from error
    if not rows:
        raise ValueError(
            f"{path} holds no observations. Write one row of {width} numbers, "
            "separated by commas, for each."
        )
    return torch.tensor(rows, dtype=torch.float32)


def _read_row(cells: list[str], width: int, where: str) -> list[float]:
    if len(cells) != width:
        raise ValueError(
            f"{where}: a row must have {width} values separated by commas, as in "
            f"training, got {len(cells)}."
        )
    row = []
    for column, cell in enumerate(cells, start=1):
        value = _parse(cell)
        if value is None or not math.isfinite(value):
            raise ValueError(
                f"{where}, value {column} must be a finite number, got {cell!r}."
            )
        row.append(value)
    return row


def _parse(cell: str) -> float | None:
    # Python's own rule that 1_000 is a number is not CSV's.
    if "_" in cell:
        return None
    try:
        return float(cell)
    except ValueError:
        return None
