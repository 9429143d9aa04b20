import pytest

from sbi_aalr.files import write_whole


def test_file_is_written_and_nothing_else(tmp_path):
    path = tmp_path / "data.txt"
    assert write_whole(path, lambda p: p.write_text("new")) == path
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError])
def test_interrupted_write_leaves_the_old_file_whole(tmp_path, stop):
    path = tmp_path / "data.txt"
    path.write_text("old")

    def write_half(target):
        target.write_text("ne")
        raise stop

    with pytest.raises(stop):
        write_whole(path, write_half)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_half_written_folder_is_never_seen(tmp_path):
    def fail(path):
        path.mkdir()
        (path / "part").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "store.zarr", fail)
    assert list(tmp_path.iterdir()) == []
