"""Files are whole or not there, whatever stops their writing, and safely made."""

import errno
import os
import signal
import stat
import subprocess
import sys
import textwrap

import pytest

from sbi_aalr.files import remove_leftovers, write_bytes, write_folder, write_text
from sbi_aalr.files.whole import lock

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs locks")


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_file_is_written_and_nothing_else(tmp_path):
    path = tmp_path / "data.txt"
    assert write_bytes(path, b"new") == path
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_name_may_be_as_long_as_names_can_be(tmp_path):
    path = write_text(tmp_path / ("a" * 250), "new")
    assert path.read_text() == "new"


@pytest.mark.parametrize("step", ["fsync", "replace", "open"])
@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(errno.ENOSPC, "full")])
def test_interrupted_write_leaves_the_old_file_whole(tmp_path, monkeypatch, step, stop):
    path = tmp_path / "data.txt"
    path.write_text("old")

    def fail(*arguments):
        raise stop

    monkeypatch.setattr(os, step, fail)
    with pytest.raises((KeyboardInterrupt, OSError)):
        write_bytes(path, b"ne")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_full_disk_is_said_with_the_file_that_did_not_fit(tmp_path, monkeypatch):
    def fail(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"a\.txt could not be written: No space") as told:
        write_text(tmp_path / "a.txt", "new")
    assert told.value.errno == errno.ENOSPC


def test_a_half_written_folder_is_never_seen(tmp_path):
    def fail(path):
        path.mkdir()
        (path / "part").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path / "store.zarr", fail)
    assert list(tmp_path.iterdir()) == []


def test_new_file_has_the_permissions_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        assert mode(write_text(tmp_path / "a", "new")) == 0o640
    finally:
        os.umask(before)


@pytest.mark.parametrize("permissions", [0o600, 0o664, 0o444])
def test_replaced_file_keeps_its_permissions(tmp_path, permissions):
    path = tmp_path / "a"
    path.write_text("old")
    path.chmod(permissions)
    assert mode(write_text(path, "new")) == permissions
    assert path.read_text() == "new"


@pytest.mark.skipif(getattr(os, "geteuid", int)() != 0, reason="needs root")
def test_replaced_file_keeps_its_owner(tmp_path):
    path = write_text(tmp_path / "a", "old")
    os.chown(path, 1234, 4321)
    found = write_text(path, "new").stat()
    assert (found.st_uid, found.st_gid) == (1234, 4321)


def test_link_is_replaced_and_not_followed(tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "a"
    victim.write_text("mine")
    path.symlink_to(victim)
    write_text(path, "new")
    assert victim.read_text() == "mine" and not path.is_symlink()


def test_planted_names_are_neither_followed_nor_trusted(tmp_path, monkeypatch):
    """Whoever guesses the name, or reads it, wins nothing."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in (f".a.{os.getpid()}.tmp", ".sbi_aalr-0.tmp"):
        (tmp_path / name).symlink_to(victim)
    os.mkfifo(tmp_path / ".sbi_aalr-1.tmp")
    write_text(tmp_path / "a", "new")
    assert victim.read_text() == "mine"
    monkeypatch.setattr("secrets.token_hex", lambda number: "0")
    with pytest.raises(FileExistsError):
        write_text(tmp_path / "a", "newer")
    assert victim.read_text() == "mine"


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from sbi_aalr.files import write_bytes, write_folder
    def die(*arguments):
        os.kill(os.getpid(), signal.SIGKILL)
    def write(path):
        path.mkdir()
        (path / "part").write_text("half")
        die()
    folder = Path(sys.argv[1])
    if sys.argv[2] == "folder":
        write_folder(folder / "store", write)
    os.fsync = die
    write_bytes(folder / "file", b"half")
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_leaves_is_removed_by_the_next(tmp_path, kind):
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), kind]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".sbi_aalr-")
    path = write_text(tmp_path / "other", "new")
    assert list(tmp_path.iterdir()) == [path]


def test_what_another_is_writing_is_no_leftover(tmp_path):
    busy = tmp_path / ".sbi_aalr-0123.tmp"
    busy.touch()
    handle = os.open(busy, os.O_RDWR)
    assert lock(handle)
    remove_leftovers(tmp_path)
    assert busy.exists()
    os.close(handle)
    (tmp_path / ".sbi_aalr-notes.txt").touch()
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".sbi_aalr-notes.txt"]


def test_many_writers_of_one_file_leave_one_whole_file(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    path = tmp_path / "a"
    texts = [f"{number}" * 10_000 for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: write_text(path, text), texts))
    assert path.read_text() in texts
    assert list(tmp_path.iterdir()) == [path]
