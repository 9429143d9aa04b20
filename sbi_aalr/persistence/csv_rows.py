"""Read a CSV file of numbers, one row an observation, and say which cell is wrong.

pandas' reader takes a tenth of the time, but even at its strictest it names the line in
one of 11 wrong files, where this one names all (`benchmarks/own_parts.py`), and lets
infinity pass; it does not find out whether there is a header. By default it makes NaN
of empty cells, of `NA`, and of what is missing at the end of a row.
"""

import csv
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

# None stands for any white space that is left.
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars", None: "spaces"}
# Words for what is missing or no number, which are no names of columns.
_NO_NAMES = {"na", "n/a", "n.a.", "#n/a", "nan", "null", "nil", "none", "missing"}
_NO_NAMES |= {"inf", "infinity", "true", "false"}
_LETTERS_FOR_DIGITS = str.maketrans("OoIl", "0011")
_LARGEST = torch.finfo(torch.float32).max
_SMALLEST = 2.0**-149
# Digits of a number that Python may still read as zero, such as 1e-400.
_NOT_ZERO = set("123456789")


def read_csv_rows(
    path: str | Path,
    width: int,
    on_header: Callable[[str], object] = lambda line: None,
) -> Tensor:
    """Read rows of numbers.

    A first line of names is a header. A name has a letter, does not begin as numbers
    do, and is neither a word such as `NA` nor a number with letters for digits, such as
    `1O`. Lines that begin with `#` are passed over, and so are empty lines; where rows
    have one value, they are so only at the end.

    Args:
        path: A file in UTF-8, values separated by commas, with points for decimals.
        width: Values in each row.
        on_header: Called with the line that was taken for a header.

    Returns:
        The rows, shape `(B, width)`, float64.

    Raises:
        OSError: If the file is missing or cannot be read.
        ValueError: If there is no row, or one has another width or a value that is no
            finite number; the message names the line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"`x` must be a CSV file, but {path} is not a file.")
    values, header = array("d"), ""
    is_first = True
    for where, line in _read_lines(path, width):
        cells = _split(line, where)
        if is_first and all(map(_is_name, cells)):
            header = line
            on_header(line)
        else:
            values.extend(_read_row(cells, width, where))
        is_first = False
    if not values:
        raise ValueError(
            f"{path} holds no observations"
            + (f" below its header, {header[:60]!r}" if header else "")
            + f". Write one row of {width} numbers, separated by commas, for each."
        )
    return torch.tensor(values, dtype=torch.float64).reshape(-1, width)


def _read_lines(path: Path, width: int) -> Iterator[tuple[str, str]]:
    """Yield where each line is that is neither empty nor a comment, and the line."""
    empty = ""
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, line in enumerate(file, start=1):
            where, line = f"{path}, line {number}", line.strip()
            try:
                line.encode()
            except UnicodeEncodeError:
                raise ValueError(
                    f"{where} is not UTF-8. Save the file as CSV in UTF-8."
                ) from None
            if line.startswith("#"):
                continue
            if line and empty:
                raise ValueError(f"{empty}: must be a finite number, got ''.")
            if line:
                yield where, line
            elif width == 1:
                # Spreadsheets write an empty cell so.
                empty = where


def _split(line: str, where: str) -> list[str]:
    cells = line.split(",")
    if '"' in line:
        try:
            (cells,) = csv.reader([line], strict=True, skipinitialspace=True)
        except csv.Error as error:
            raise ValueError(f"{where} is no line of a CSV file: {error}.") from error
    return [cell.strip() for cell in cells]


def _is_name(cell: str) -> bool:
    word = cell.lower()
    return (
        any(map(str.isalpha, cell))
        and not (cell[0].isdigit() or cell[0] in "+-.")
        and word not in _NO_NAMES
        and _parse(cell.translate(_LETTERS_FOR_DIGITS)) is None
    )


def _read_row(cells: list[str], width: int, where: str) -> list[float]:
    for separator, name in _SEPARATORS.items():
        if any(len(cell.split(separator)) > 1 for cell in cells):
            raise ValueError(
                f"{where}: values must be separated by commas, with points for "
                f"decimals, but there are {name}."
            )
    if len(cells) != width:
        raise ValueError(
            f"{where}: a row must have {width} values separated by commas, as in "
            f"training, got {len(cells)}"
            + (", the last of them empty." if not cells[-1] else ".")
        )
    row = []
    for column, cell in enumerate(cells, start=1):
        value = _parse(cell)
        if value is None or not abs(value) < float("inf"):
            raise ValueError(
                f"{where}, value {column} must be a finite number, got {cell!r}."
            )
        is_zero = value == 0 and not set(cell.lower().partition("e")[0]) & _NOT_ZERO
        if not (is_zero or _SMALLEST <= abs(value) <= _LARGEST):
            raise ValueError(
                f"{where}, value {column} must be a number that float32 can hold, got "
                f"{cell!r}. Choose other units."
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
