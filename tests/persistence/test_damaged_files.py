"""What is loaded is what was saved, or one ValueError that names the file.

Bits are flipped, files cut, mixed and replaced by what others would write; nothing of
it may load as something else, take long, or take much memory.
"""

import json
import os
import random
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_posterior import OLD, SETTINGS, WEIGHTS, describe, make
from typer.testing import CliRunner

from sbi_aalr import MHPosterior, networks
from sbi_aalr.cli.app import app
from sbi_aalr.persistence import posterior_pair


def list_names(folder):
    return {path.name for path in folder.iterdir()}


def load(folder):
    """What is drawn from a folder of any version."""
    posterior = MHPosterior.load(folder)
    theta = torch.zeros(1, posterior.target.ratio_dim)
    return posterior.potential(theta).tolist(), posterior.parameters


def flip(folder, name, num_flips, seed):
    """Flip single bits; return how many of the files loaded all the same."""
    expected = describe(folder)
    content = (folder / name).read_bytes()
    generator, num_loaded = random.Random(seed), 0
    for _ in range(num_flips):
        place, bit = generator.randrange(len(content)), generator.randrange(8)
        flipped = bytearray(content)
        flipped[place] ^= 1 << bit
        (folder / name).write_bytes(flipped)
        found, refusal = None, name
        try:
            found = describe(folder)
            num_loaded += 1
        except ValueError as error:
            refusal = str(error)
        assert name in refusal
        assert found in (None, expected), f"bit {bit} of byte {place} changed it"
    (folder / name).write_bytes(content)
    return num_loaded


@pytest.mark.parametrize("name", [WEIGHTS, SETTINGS])
def test_flipped_bits_change_nothing_in_silence(folder, name):
    # Between the words of JSON, some may load.
    assert flip(folder, name, num_flips=200, seed=1) < 40


@pytest.mark.slow
@pytest.mark.parametrize("name", [WEIGHTS, SETTINGS])
def test_a_thousand_flipped_bits_change_nothing_in_silence(folder, name):
    assert flip(folder, name, num_flips=1_000, seed=2) < 200


def test_files_of_two_saves_are_not_mixed(folder, tmp_path):
    other = make(2).save(tmp_path / "other")
    shutil.copy(other / WEIGHTS, folder / WEIGHTS)
    with pytest.raises(ValueError, match=f"{WEIGHTS} is damaged, or of another save"):
        MHPosterior.load(folder)


@pytest.mark.parametrize("is_old", [True, False])
def test_save_that_was_killed_between_its_files_leaves_the_earlier(
    folder, tmp_path, monkeypatch, is_old
):
    if is_old:
        shutil.rmtree(folder)
        shutil.copytree(OLD, folder)
    expected, names = load(folder), list_names(folder)

    def die(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(posterior_pair, "write_sealed", die)
    with pytest.raises(KeyboardInterrupt):
        make(2).save(folder)
    assert load(folder) == expected and list_names(folder) == names


def test_save_that_was_killed_at_its_end_is_read_and_finished(folder, monkeypatch):
    other = make(2)
    expected = describe(other.save(folder.with_name("other")))
    old = (folder / WEIGHTS).read_bytes()
    with monkeypatch.context() as patch:
        # Before the last step the new weights lie beside the old ones.
        patch.setattr(posterior_pair, "_put_in_place", lambda *paths: None)
        other.save(folder)
    assert describe(folder) == expected
    assert (folder / WEIGHTS).read_bytes() == old
    (folder / WEIGHTS).unlink()
    assert describe(folder) == expected
    # Killed once more, before its settings: what is there is put in its place first.
    with monkeypatch.context() as patch:
        patch.setattr(posterior_pair, "write_sealed", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            make(3).save(folder)
    assert describe(folder) == expected
    assert list_names(folder) == {WEIGHTS, SETTINGS}


def test_weights_of_a_stranger_beside_a_posterior_stay(folder):
    stranger = folder / "posterior-0123456789abcdef.safetensors"
    save_file({"mine": torch.zeros(3)}, stranger)
    make(2).save(folder)
    assert stranger.is_file()


def make_loop(path):
    path.unlink()
    path.symlink_to(path.name)


def make_folder(path):
    path.unlink()
    path.mkdir()


def make_pipe(path):
    path.unlink()
    os.mkfifo(path)


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[:500]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"}"),
    "random": lambda path: path.write_bytes(random.Random(1).randbytes(5_000)),
    "zeros": lambda path: path.write_bytes(bytes(5_000)),
    "folder": make_folder,
    "loop": make_loop,
    "pipe": make_pipe,
    "null": lambda path: path.write_text("null"),
}


@pytest.mark.parametrize("name", [WEIGHTS, SETTINGS])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file_is_one_error_that_names_it(folder, name, damage):
    DAMAGES[damage](folder / name)
    with pytest.raises(ValueError, match=f"{name} is damaged") as caught:
        MHPosterior.load(folder)
    assert "\n" not in str(caught.value)


def test_file_that_may_not_be_read_is_one_error_that_names_it(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ValueError, match=f"{SETTINGS} is damaged: .*denied"):
        MHPosterior.load(folder)


def test_settings_without_their_hash_are_refused(folder):
    document = json.loads((folder / SETTINGS).read_text())
    del document["sha256"]
    (folder / SETTINGS).write_text(json.dumps(document))
    with pytest.raises(ValueError, match=f"{SETTINGS} is damaged: its hash is missing"):
        MHPosterior.load(folder)


def test_other_layout_of_the_same_settings_loads(folder):
    expected = describe(folder)
    document = json.loads((folder / SETTINGS).read_text())
    text = json.dumps(dict(reversed(document.items())), indent=None)
    (folder / SETTINGS).write_text(text)
    assert describe(folder) == expected


def spoil_weights(folder, spoil):
    """Change tensors in a folder of the first version, which has no hash."""
    tensors = load_file(folder / WEIGHTS)
    spoil(tensors)
    save_file(tensors, folder / WEIGHTS)


def rename(tensors):
    tensors["estimator.extra"] = tensors.pop(next(iter(tensors)))


SPOILS = {
    "int8": lambda tensors: tensors.update(
        {name: value.to(torch.int8) for name, value in tensors.items()}
    ),
    "float64": lambda tensors: tensors.update(
        {name: value.double() for name, value in tensors.items()}
    ),
    "half of x": lambda tensors: tensors.update(x=tensors["x"].half()),
    "wide x": lambda tensors: tensors.update(x=torch.zeros(1, 4)),
    "flat x": lambda tensors: tensors.update(x=torch.zeros(3)),
    "no row of x": lambda tensors: tensors.update(x=torch.zeros(0, 3)),
    "scalar x": lambda tensors: tensors.update(x=torch.zeros(())),
    "NaN in x": lambda tensors: tensors.update(x=torch.full((1, 3), torch.nan)),
    "fewer": lambda tensors: tensors.pop("estimator.embedding_net_x.0.spread"),
    "none": lambda tensors: tensors.clear(),
    "another name": rename,
    "odd logarithms": lambda tensors: tensors.update(
        {"estimator.embedding_net_x.0.logarithmic": torch.ones(3, dtype=torch.int8)}
    ),
    "wide remainder": lambda tensors: tensors.update(
        {"estimator.embedding_net_x.0.remainder": torch.zeros(9, 1)}
    ),
    "a stranger": lambda tensors: tensors.update(stranger=torch.zeros(3)),
}


@pytest.mark.parametrize("spoil", SPOILS)
def test_tensors_that_nobody_saved_are_refused(tmp_path, spoil):
    folder = shutil.copytree(OLD, tmp_path / "run")
    spoil_weights(folder, SPOILS[spoil])
    with pytest.raises(ValueError, match=WEIGHTS) as caught:
        MHPosterior.load(folder)
    assert "\n" not in str(caught.value)


def test_own_network_is_not_built_larger_than_its_weights(folder):
    for builder in (networks.mlp((20_000,)), networks.two_towers(20_000)):
        with pytest.raises(ValueError, match=f"{WEIGHTS} do not fit the classifier"):
            MHPosterior.load(folder, classifier=builder)


def test_loading_does_not_depend_on_the_default_dtype(folder):
    expected = describe(folder)
    torch.set_default_dtype(torch.float64)
    try:
        posterior = MHPosterior.load(folder)
        parts = posterior.potential_fn.ratio_estimator.state_dict().values()
        assert {part.dtype for part in parts} == {torch.float32}
    finally:
        torch.set_default_dtype(torch.float32)
    assert describe(folder) == expected


@pytest.mark.parametrize("name", [WEIGHTS, SETTINGS])
def test_command_says_it_in_one_line(folder, tmp_path, name):
    (folder / name).write_bytes(b"{}" * 100)
    rows = tmp_path / "x.csv"
    rows.write_text("1,2")
    for command in (["sample", folder, "--x", rows], ["report", folder]):
        result = CliRunner().invoke(app, list(map(str, command)))
        assert result.exit_code == 1 and result.stderr.count("\n") == 1
        assert f"{name} is damaged" in result.stderr
