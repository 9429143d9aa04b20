"""Where something may be written is one rule, which is checked before any work."""

import os
import re
from pathlib import Path

import pytest

from sbi_aalr.files import (
    check_output_file,
    check_output_folder,
    check_replaceable,
)

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs pipes and /proc")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.html").write_text("mine")
    (tmp_path / "ours.html").write_text("ours")
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling.html").symlink_to(tmp_path / "nowhere")
    (tmp_path / "link.html").symlink_to(tmp_path / "ours.html")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.html")
    return tmp_path


def list_all(folder):
    return {str(path): path.lstat().st_ino for path in folder.rglob("*")}


def check(path):
    return check_output_file(
        "out", path, (".html", ".htm"), lambda path: path.read_text() == "ours"
    )


@pytest.mark.parametrize("name", ["new.html", "new.htm", "ours.html", "new/a/b.html"])
def test_good_file_passes_and_nothing_is_made(folder, name):
    before = list_all(folder)
    assert check(str(folder / name)) == check(folder / name) == folder / name
    assert list_all(folder) == before


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("mine.html", ValueError, "`out` must not exist yet, but .*mine.html does"),
        ("folder.html", ValueError, "`out` must not exist yet, but .*folder.html"),
        ("folder", IsADirectoryError, "`out` must be a file, but .* is a folder"),
        ("dangling.html", ValueError, "must be a file, but .* is a link"),
        ("link.html", ValueError, "must be a file, but .* is a link"),
        ("pipe.html", ValueError, "must be a file, but .* is a pipe"),
        ("new.txt", ValueError, r"`out` must end in .html or .htm, got '.*new.txt'"),
        ("new", ValueError, "must end in .html"),
        ("new.html/", None, ""),
        ("mine.html/a.html", NotADirectoryError, "mine.html is a file"),
        ("dangling/a.html", NotADirectoryError, "dangling is a link"),
        ("a" * 300 + ".html", OSError, "too long"),
    ],
)
def test_bad_file_is_refused(folder, name, error, message):
    before = list_all(folder)
    if error is None:
        assert check(f"{folder}/{name}") == folder / "new.html"
    else:
        with pytest.raises(error, match=message):
            check(f"{folder}/{name}")
    assert list_all(folder) == before


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("", ValueError, "`out` must be a path that is not empty, got ''"),
        ("  ", ValueError, "`out` must be a path that is not empty"),
        ("a\0.html", ValueError, "`out` must be a path"),
        (b"a.html", TypeError, "`out` must be a path"),
        (None, TypeError, "`out` must be a path, got None of type NoneType"),
        (3, TypeError, "`out` must be a path, got 3 of type int"),
        ("/dev/null", ValueError, "must end in .html"),
        ("/proc/report.html", OSError, "`out` must lie where files can be written"),
        ("/sys/report.html", OSError, "`out` must lie where files can be written"),
        ("/dev/null/report.html", NotADirectoryError, "/dev/null is a device"),
    ],
)
def test_what_is_no_path_for_a_file_is_refused(path, error, message):
    with pytest.raises(error, match=re.escape(message)):
        check(path)


def test_device_is_refused_whatever_it_ends_in():
    with pytest.raises(ValueError, match="/dev/null is a device"):
        check_output_file("out", "/dev/null", ("",))
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("name", ["folder", "new", "new/deeper", "."])
def test_good_folder_passes_and_nothing_is_made(folder, name):
    before = list_all(folder)
    assert check_output_folder("out", folder / name) == folder / name
    assert list_all(folder) == before


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("mine.html", NotADirectoryError, "`out` must be a folder, but .* is a file"),
        ("mine.html/a", NotADirectoryError, "`out` must be a folder, but .* a file"),
        ("dangling", NotADirectoryError, "`out` must be a folder, but .* is a link"),
        ("pipe.html", NotADirectoryError, "`out` must be a folder, but .* is a pipe"),
        ("/dev/null", NotADirectoryError, "/dev/null is a device"),
        ("/proc/runs", OSError, "`out` must lie where files can be written"),
    ],
)
def test_bad_folder_is_refused(folder, path, error, message):
    before = list_all(folder)
    with pytest.raises(error, match=message):
        check_output_folder("out", folder / path)
    assert list_all(folder) == before


def test_empty_name_is_no_folder():
    with pytest.raises(ValueError, match="`out` must be a path that is not empty"):
        check_output_folder("out", "")


def test_what_is_not_ours_is_not_replaced(tmp_path):
    check_replaceable("out", tmp_path, ["a", "b"], lambda folder: False)
    (tmp_path / "b").symlink_to(tmp_path / "nowhere")
    check_replaceable("out", tmp_path, ["a"], lambda folder: False)
    check_replaceable("out", tmp_path, ["a", "b"], lambda folder: True)
    with pytest.raises(ValueError, match=r"`out` must be a folder where .*/b"):
        check_replaceable("out", tmp_path, ["a", "b"], lambda folder: False)


@pytest.mark.skipif(getattr(os, "geteuid", int)() == 0, reason="root may write all")
def test_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match="`out` must lie where files can be written"):
        check_output_folder("out", tmp_path / "new")
