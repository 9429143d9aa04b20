import json

import pytest
import torch
import xarray as xr
from safetensors.torch import load_file

from sbi_aalr.files import (
    write_datatree,
    write_figure,
    write_json,
    write_tensors,
    write_text,
    write_whole,
)


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


@pytest.fixture
def tree():
    return xr.DataTree.from_dict({"/posterior": xr.Dataset({"theta": ("draw", [1.0])})})


def test_text_and_json_come_back(tmp_path):
    assert write_text(tmp_path / "a.txt", "Grüße").read_text("utf-8") == "Grüße"
    document = {"limits": [1, None], "name": "x"}
    path = write_json(tmp_path / "a.json", document)
    assert json.loads(path.read_text()) == document
    assert path.read_text().endswith("\n")


def test_views_and_gradients_are_written_as_plain_tensors(tmp_path):
    matrix = torch.arange(6.0, requires_grad=True).reshape(2, 3)
    tensors = {"view": matrix.T, "shared": matrix[0], "again": matrix[0]}
    read = load_file(write_tensors(tmp_path / "a.safetensors", tensors))
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(read[name], tensor)


@pytest.mark.parametrize("name", ["chains.nc", "chains.zarr"])
def test_tree_is_written_by_its_ending(tmp_path, tree, name):
    if name.endswith("zarr"):
        pytest.importorskip("zarr")
    path = write_datatree(tmp_path / name, tree)
    assert path.is_dir() == name.endswith("zarr")
    with xr.open_datatree(path) as read:
        assert read["posterior"]["theta"].values.tolist() == [1.0]
    assert list(tmp_path.iterdir()) == [path]


def test_figure_is_a_picture(tmp_path):
    from matplotlib.figure import Figure

    path = write_figure(tmp_path / "a.png", Figure())
    assert path.read_bytes().startswith(b"\x89PNG")
