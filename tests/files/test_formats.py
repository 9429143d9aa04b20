import json
import random

import pytest
import torch
import xarray as xr
from safetensors.torch import load_file

from sbi_aalr.files import (
    hash_document,
    hash_tensors,
    read_sealed,
    write_datatree,
    write_figure,
    write_json,
    write_sealed,
    write_tensors,
    write_text,
)


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


DOCUMENT = {"limits": [1, None, 0.1], "names": {"b": "x", "a": True}, "empty": []}


def test_sealed_document_comes_back(tmp_path):
    path = write_sealed(tmp_path / "a.json", DOCUMENT)
    assert read_sealed(path) == DOCUMENT
    # As files of version 0.1.0 are, which have no hash.
    assert read_sealed(write_json(tmp_path / "b.json", DOCUMENT)) == DOCUMENT
    assert hash_document(dict(reversed(DOCUMENT.items()))) == hash_document(DOCUMENT)


def test_no_flipped_bit_changes_what_a_sealed_document_says(tmp_path):
    path = write_sealed(tmp_path / "a.json", DOCUMENT)
    content, rng = path.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(300):
        bit = rng.randrange(8 * len(content))
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            found = read_sealed(path)
        except ValueError:
            refused += 1
        else:
            # White space, or the name of the hash.
            assert DOCUMENT.items() <= found.items()
    assert refused > 200


@pytest.mark.parametrize("content", ["", "[1]", "3", "{", "[" * 100_000, '{"a": 1}}'])
def test_what_is_no_document_is_refused(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"a\.json is damaged"):
        read_sealed(path)


def test_hash_of_tensors_knows_name_dtype_shape_value_and_label():
    tensor = torch.tensor([[1.0, 0.0]])
    hashes = [
        hash_tensors({"a": tensor}),
        hash_tensors({"b": tensor}),
        hash_tensors({"a": tensor.view(torch.int32)}),
        hash_tensors({"a": tensor.T}),
        hash_tensors({"a": -tensor}),
        hash_tensors({"a": tensor}, "label"),
        hash_tensors({"a": tensor, "c": torch.tensor(True)}),
        hash_tensors({"a": tensor.bfloat16()}),
        hash_tensors({}),
    ]
    assert len(set(hashes)) == len(hashes)
    assert hash_tensors({"a": tensor.T.contiguous().T}) == hashes[0]
