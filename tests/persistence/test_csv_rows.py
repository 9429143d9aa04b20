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
    assert rows.dtype == torch.float32
    assert torch.equal(rows, torch.tensor([[1, 2.5], [-3, 400]]))


def test_what_numpy_writes_is_read(tmp_path):
    values = np.random.default_rng(0).normal(size=(5, 3))
    path = tmp_path / "x.csv"
    np.savetxt(path, values, delimiter=",", header="a,b,c")
    assert torch.equal(read_csv_rows(path, 3), torch.from_numpy(values).float())


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
        ("1 2\n3 4\n", r"line 2: .*separated by commas"),
        ("", "holds no observations"),
        ("\n\n", "holds no observations"),
        ("a,b\n", "holds no observations"),
        (b"1,2\n\xff\xfe", "not a CSV file in UTF-8"),
        ('1,"2\n', "not a CSV file"),
    ],
)
def test_wrong_content_is_refused_by_line(write, content, message):
    with pytest.raises(ValueError, match=message):
        read_csv_rows(write(content), 2)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`x` must be a CSV file.*not a file"):
        read_csv_rows(tmp_path / "x.csv", 2)
    with pytest.raises(FileNotFoundError, match="not a file"):
        read_csv_rows(tmp_path, 2)
