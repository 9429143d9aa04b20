import numpy as np
import pytest
import torch

from sbi_aalr.persistence.csv_rows import read_csv_rows


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "x.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize(
    "content",
    [
        "1,2.5\n-3,4e2\n",
        "1,2.5\n-3,4e2",
        "rate,size\n1,2.5\n-3,4e2\n",
        '"rate","size"\n"1", 2.5\n\n -3 ,4e2\n\n',
        "\ufeffrate,size\r\n1,2.5\r\n-3,4e2\r\n",
        "# made by hand\n1,2.5\n# more\n-3,4e2\n",
    ],
)
def test_rows_are_read(write, content):
    rows = read_csv_rows(write(content), 2)
    assert rows.dtype == torch.float64
    assert torch.equal(rows, torch.tensor([[1, 2.5], [-3, 400]]).double())


def test_what_numpy_writes_is_read(tmp_path):
    values = np.random.default_rng(0).normal(size=(5, 3))
    path = tmp_path / "x.csv"
    np.savetxt(path, values, delimiter=",", header="a,b,c")
    assert torch.equal(read_csv_rows(path, 3), torch.from_numpy(values))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n1,2,3\n", r"x.csv, line 3: .*2 values .*got 3"),
        ("1,2\n\n1\n", r"line 3: .*got 1"),
        ("1,2\n1,two\n", r"line 2, value 2 .*got 'two'"),
        ("1,two\n", r"line 1, value 2 .*got 'two'"),
        ("a,b\nc,d\n", r"line 2, value 1 .*got 'c'"),
        ("1,\n", r"line 1, value 2 .*got ''"),
        ("1,1_000\n", r"got '1_000'"),
        ("1,nan\n", r"line 1, value 2 must be a finite number, got 'nan'"),
        ("-inf,1\n", r"got '-inf'"),
        ("", "holds no observations"),
        ("\n\n", "holds no observations"),
        ("a,b\n", "holds no observations"),
        ("a,b\n", "holds no observations below its header, 'a,b'"),
        ("# 1,2\n", "holds no observations"),
        # Rows that used to vanish, or to pass for a header.
        ("1,1\n,\n2,2\n", r"line 2, value 1 must be a finite number, got ''"),
        ("NA,NA\n1,2\n", r"line 1, value 1 must be a finite number, got 'NA'"),
        ("N/A,nan\n1,2\n", r"line 1, value 1 .*got 'N/A'"),
        ("1O,2O\n1,2\n", r"line 1, value 1 .*got '1O'"),
        ("lO,I.5\n1,2\n", r"line 1, value 1 .*got 'lO'"),
        ("1d5,2d5\n1,2\n", r"line 1, value 1 .*got '1d5'"),
        ("-inf,-inf\n1,2\n", r"line 1, value 1 .*got '-inf'"),
        (",\n1,2\n", r"line 1, value 1 .*got ''"),
        ('"",""\n1,2\n', r"line 1, value 1 .*got ''"),
        ("--,--\n1,2\n", r"line 1, value 1 .*got '--'"),
        ("a,b\nNA,2\n", r"line 2, value 1 .*got 'NA'"),
        ("x,\n1,2\n", r"line 1, value 1 .*got 'x'"),
        # Other separators.
        ("1;2\n3;4\n", r"line 1: .*by commas, .*but there are semicolons"),
        ("a;b\n3;4\n", r"line 2: .*but there are semicolons"),
        ("1,5;2,5\n", r"line 1: .*points for decimals, but there are semicolons"),
        ("1\t2\n", r"line 1: .*but there are tabs"),
        ("1|2\n", r"line 1: .*but there are bars"),
        ("1 2\n3 4\n", r"line 1: .*but there are spaces"),
        ("1 000,2\n", r"line 1: .*but there are spaces"),
        ('"1,5","2,5"\n', r"line 1, value 1 .*got '1,5'"),
        ("1,2,\n", r"line 1: .*got 3, the last of them empty"),
        # Quotes and bytes.
        ('1,2\n1,"2\n3,4"\n', r"line 2 is no line of a CSV file"),
        ('#a,"b\n1,2\n3"\n', r"line 3: .*got 1"),
        ('1,"2"x\n', r"line 1 is no line of a CSV file"),
        (b"1,2\n\xff\xfe", "line 2 is not UTF-8"),
        ("1,2\n".encode("utf-16"), "line 1 is not UTF-8"),
        ("1,2\n".encode("utf-16-le"), r"line 1, value 1 .*got '1\\x00'"),
        (b"1,2\n\x00,1\n", r"line 2, value 1 .*got '\\x00'"),
        # What float32 would turn into infinity or zero.
        ("1,1e39\n", r"line 1, value 2 must be a number that float32 can hold"),
        ("1,-1e-60\n", r"line 1, value 2 must be a number that float32 can hold"),
        ("1,1e-400\n", r"line 1, value 2 must be a number that float32 can hold"),
    ],
)
def test_wrong_content_is_refused_by_line(write, content, message):
    with pytest.raises(ValueError, match=message):
        read_csv_rows(write(content), 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1\n\n2\n", r"line 2: must be a finite number, got ''"),
        ('1\n""\n2\n', r"line 2, value 1 must be a finite number, got ''"),
        ("O\n1\n", r"line 1, value 1 .*got 'O'"),
        ("1;2\n", r"line 1: .*but there are semicolons"),
    ],
)
def test_no_row_of_one_value_vanishes(write, content, message):
    with pytest.raises(ValueError, match=message):
        read_csv_rows(write(content), 1)


def test_column_of_values_is_read(write):
    assert read_csv_rows(write("e\n1\n# two\n2\n\n\n"), 1).tolist() == [[1], [2]]


@pytest.mark.parametrize(
    "header", ["a,b", '"rate, per day",size', "θ_1,θ_2", "A [m],b", "CO2,e", "x1,$x_2$"]
)
def test_header_is_told(write, header):
    told = []
    rows = read_csv_rows(write(f"# made by hand\n{header}\n1,2\n"), 2, told.append)
    assert told == [header] and rows.tolist() == [[1, 2]]


def test_no_header_is_told_where_there_is_none(write):
    told = []
    rows = read_csv_rows(write("1,2\r3,4\r"), 2, told.append)
    assert told == [] and rows.tolist() == [[1, 2], [3, 4]]


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`x` must be a CSV file.*not a file"):
        read_csv_rows(tmp_path / "x.csv", 2)
    with pytest.raises(FileNotFoundError, match="not a file"):
        read_csv_rows(tmp_path, 2)
