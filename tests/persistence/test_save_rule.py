"""`save` replaces a saved posterior and nothing else."""

import errno
import os

import pytest


def list_content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_saved_posterior_is_replaced_even_half_of_one(posterior, tmp_path):
    names = {"posterior.json", "posterior.safetensors"}
    for _ in range(2):
        assert set(list_content(posterior.save(tmp_path))) == names
    (tmp_path / "posterior.json").unlink()
    assert set(list_content(posterior.save(tmp_path))) == names


@pytest.mark.parametrize("name", ["posterior.json", "posterior.safetensors"])
@pytest.mark.parametrize("content", ["mine", '{"mine": 1}'])
def test_what_is_no_saved_posterior_is_not_replaced(posterior, tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=f"`folder` must be a folder where .*{name}"):
        posterior.save(tmp_path)
    assert list_content(tmp_path) == {name: content.encode()}


@pytest.mark.parametrize(
    ("folder", "error", "message"),
    [
        ("", ValueError, "`folder` must be a path that is not empty"),
        (3, TypeError, "`folder` must be a path, got 3"),
        (__file__, NotADirectoryError, "`folder` must be a folder, but .* is a file"),
        ("/dev/null", NotADirectoryError, "/dev/null is a device"),
        ("/proc/posterior", OSError, "`folder` must lie where files can be written"),
    ],
)
def test_what_cannot_be_a_folder_is_refused(posterior, folder, error, message):
    with pytest.raises(error, match=message):
        posterior.save(folder)


def test_full_disk_is_said(posterior, tmp_path, monkeypatch):
    def fail(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"posterior\.safetensors could not be written"):
        posterior.save(tmp_path / "new")
    assert list_content(tmp_path / "new") == {}
