"""What is known of a fit comes back as it was written, or is named."""

import json
import random

import pytest

from sbi_aalr.persistence.training_json import read_training, write_training

TRAINING = {
    "simulator": "slcp",
    "num_simulations": 1_000,
    "num_samples": 200,
    "seed": 2**70,
    "fit_seconds": 1.5,
    "training_loss": [0.7, 0.6, 1 / 3],
    "validation_loss": [],
    "mine": {"note": "kept as it is"},
}


def test_it_comes_back_as_it_was_written(tmp_path):
    write_training(tmp_path, TRAINING)
    assert read_training(tmp_path) == TRAINING
    assert read_training(tmp_path / "elsewhere") == {}


def test_flipped_bits_change_nothing_in_silence(tmp_path):
    path = write_training(tmp_path, TRAINING)
    content, generator = path.read_bytes(), random.Random(1)
    for _ in range(500):
        flipped = bytearray(content)
        flipped[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        path.write_bytes(flipped)
        found = None
        try:
            found = read_training(tmp_path)
        except ValueError as error:
            message = str(error)
        if found is None:
            assert str(path) in message
            continue
        # The name of the hash is the only thing that is not hashed.
        assert {name: found[name] for name in TRAINING} == TRAINING


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("num_samples", "; rm -rf ~", "a positive int, got '; rm -rf ~'"),
        ("num_samples", [1], "a positive int"),
        ("num_samples", None, "a positive int"),
        ("num_simulations", 0, "a positive int, got 0"),
        ("num_simulations", True, "a positive int, got True"),
        ("num_simulations", 1e6, "a positive int"),
        ("num_simulations", 10**300, "a positive int"),
        ("seed", -1, "an int of at least 0, got -1"),
        ("seed", "1", "an int of at least 0"),
        ("simulator", 3, "text, got 3"),
        ("simulator", ["slcp"], "text"),
        ("fit_seconds", "long", "a finite number"),
        ("fit_seconds", float("inf"), "a finite number, got inf"),
        ("training_loss", "0.7", "a list of finite numbers"),
        ("training_loss", ["0.7"], "a list of finite numbers"),
        ("training_loss", [0.7, None], "a list of finite numbers"),
        ("training_loss", [[0.7]], "a list of finite numbers"),
        ("training_loss", [True], "a list of finite numbers"),
        ("training_loss", {"0": 0.7}, "a list of finite numbers"),
        ("validation_loss", [float("nan")], "a list of finite numbers, got .nan"),
        ("validation_loss", 0.7, "a list of finite numbers"),
    ],
)
def test_values_of_the_wrong_kind_are_named(tmp_path, name, value, rule):
    (tmp_path / "training.json").write_text(json.dumps({**TRAINING, name: value}))
    message = f"training.json is damaged: `{name}` must be {rule}"
    with pytest.raises(ValueError, match=message):
        read_training(tmp_path)


def test_folder_or_loop_in_its_place_is_named(tmp_path):
    path = tmp_path / "training.json"
    path.mkdir()
    with pytest.raises(ValueError, match=r"training.json is damaged"):
        read_training(tmp_path)
    path.rmdir()
    path.symlink_to("training.json")
    with pytest.raises(ValueError, match=r"training.json is damaged"):
        read_training(tmp_path)
