"""What is loaded is what was saved, or one ValueError that names the file.

Bits are flipped, files cut, mixed and replaced by what others would write; nothing of
it may load as something else, take long, or take much memory.
"""

import json
import random
import resource
import shutil
import time
from pathlib import Path

import pytest
import torch
from linear_gaussian import PRIOR, X_O, draw_pairs
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from sbi_aalr import MHPosterior, networks
from sbi_aalr.cli.app import app
from sbi_aalr.files import read_sealed, write_sealed
from sbi_aalr.networks.ensemble import average_log_ratios
from sbi_aalr.training.classifiers import NamedBuilder

WEIGHTS, SETTINGS = "posterior.safetensors", "posterior.json"
OLD = Path(__file__).with_name("written_by_0_1_0")
SMALL = {"hidden_features": 8, "num_blocks": 1, "dropout": 0.1, "num_octaves": 2}
ROWS = draw_pairs(50, seed=1)
THETA = ROWS[0][:20]


def make(seed, prior=PRIOR):
    """A posterior of two small networks that nobody trained."""
    torch.manual_seed(seed)
    members = [NamedBuilder("two_towers", SMALL)(*ROWS) for _ in range(2)]
    posterior = MHPosterior.from_estimator(average_log_ratios(members), prior)
    return posterior.set_default_x(X_O)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return make(1).save(tmp_path_factory.mktemp("saved") / "run")


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "run")


def describe(folder):
    """All that a folder means: what is drawn follows from this."""
    posterior = MHPosterior.load(folder)
    prior = posterior.potential_fn.prior
    return (
        posterior.parameters,
        posterior.default_x.tolist(),
        posterior.potential(THETA).tolist(),
        prior.log_prob(THETA).tolist(),
        [part.tolist() for part in posterior.potential_fn.ratio_estimator.parameters()],
    )


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


COUNT = '"num_candidates": '


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
def test_save_that_was_killed_between_its_files_is_refused(
    folder, tmp_path, monkeypatch, is_old
):
    if is_old:
        shutil.rmtree(folder)
        shutil.copytree(OLD, folder)

    def die(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("sbi_aalr.persistence.posterior_files.write_sealed", die)
    with pytest.raises(KeyboardInterrupt):
        make(2).save(folder)
    with pytest.raises(ValueError, match=r"of another save .* Save the posterior"):
        MHPosterior.load(folder)


def make_loop(path):
    path.unlink()
    path.symlink_to(path.name)


def make_folder(path):
    path.unlink()
    path.mkdir()


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[:500]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"}"),
    "random": lambda path: path.write_bytes(random.Random(1).randbytes(5_000)),
    "zeros": lambda path: path.write_bytes(bytes(5_000)),
    "folder": make_folder,
    "loop": make_loop,
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


def refuse_quickly(folder, name):
    """Load a file that asks for much; it must cost little."""
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    with pytest.raises(ValueError, match=name) as caught:
        MHPosterior.load(folder)
    assert time.process_time() - started < 1
    # Kilobytes.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 200_000
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


MEMBER = {"classifier": "two_towers", "classifier_settings": SMALL}
LINEAR = {"classifier": "linear", "classifier_settings": {}}
DEEP = MEMBER
for _ in range(200):
    DEEP = {"classifier": "ensemble", "classifier_settings": None, "members": [DEEP]}


def change_member(**settings):
    return {"members": [{**MEMBER, "classifier_settings": {**SMALL, **settings}}] * 2}


def change_setting(**settings):
    return {"parameters": {"kernel": "auto", **settings}}


HOSTILE = [
    *(
        change_member(**{name: value})
        for name in ("hidden_features", "num_blocks", "num_octaves")
        for value in (20_000, 10**5, 10**12, 10**30, 0, -1, True, 2.5, "9", None, [9])
    ),
    *(change_member(dropout=value) for value in (2.0, -1, "half", [], {})),
    change_member(embedding_net_x=3),
    change_member(activation="os.system"),
    *(
        {name: shape}
        for name in ("x_shape", "theta_shape")
        for shape in (
            [10**8],
            [1] * 10**5,
            [],
            [0],
            [-2],
            [True],
            [2.0],
            ["2"],
            [None],
            [10**30],
            [2, 1],
            [[2]],
            [3],
            {},
            None,
            2,
        )
    ),
    {"members": [MEMBER] * 20_000},
    {"members": [LINEAR] * 20_000},
    {"members": [MEMBER]},
    {"members": []},
    {"members": None},
    {"members": {}},
    {"members": [3, 4]},
    {"members": [{}]},
    {"members": [DEEP, DEEP]},
    {"members": [{**MEMBER, "x_shape": [3]}] * 2},
    {"classifier": "linear"},
    {"classifier": "two_towers", "classifier_settings": {"hidden_features": 20_000}},
    {"classifier": "mlp", "classifier_settings": {"hidden_features": 100_000}},
    {"classifier": "selu_mlp", "classifier_settings": {"hidden_features": [9] * 10**5}},
    {"classifier": 3},
    {"classifier": "ensemble", "members": 3},
    {"classifier_settings": [1]},
    {"format": True},
    {"format": 2.0},
    {"format": "2"},
    {"format": -1},
    {"sbi_aalr": None},
    {"extra": 1},
    {"cuts": [{}]},
    {"cuts": [{**MEMBER, "least_log_ratio": 0.0}] * 20_000},
    {"cuts": 3},
    {"weights": ""},
    {"weights": None},
    {"prior": {}},
    {"prior": []},
    {"prior": {"type": "BoxUniform", "arguments": {}}},
    {
        "prior": {
            "type": "BoxUniform",
            "dtype": "float32",
            "arguments": {"low": [0.0] * 100_000, "high": [1.0] * 100_000},
        }
    },
    change_setting(num_chain=3),
    change_setting(max_rhat=True),
    change_setting(max_rhat=0.5),
    change_setting(num_chains=-1),
    change_setting(num_chains=10**30),
    change_setting(thin=2.0),
    change_setting(kernel="os.system"),
    change_setting(kernel=[]),
    change_setting(init_strategy=None),
    change_setting(max_batch_size="all"),
]


@pytest.mark.parametrize("changes", HOSTILE, ids=lambda changes: f"{changes!r:.60}")
def test_settings_that_nobody_saved_are_refused_quickly(folder, changes):
    # Sealed again, as by somebody who means harm.
    document = read_sealed(folder / SETTINGS)
    write_sealed(folder / SETTINGS, {**document, **changes})
    refuse_quickly(folder, SETTINGS)


TEXTS = {
    "deep lists": "[" * 100_000,
    "deep objects": '{"a":' * 100_000,
    "many lists": "[" + "[]," * 300_000 + "[]]",
    "a large number": '{"format": ' + "9" * 10_000 + "}",
    "not UTF-8": b'{"format": "\xff\xfe"}',
    "UTF-16": '{"format": 2}'.encode("utf-16"),
    "a half of a pair": '{"format": "\\ud800"}',
    "a list": "[1, 2]",
    "a word": "true",
    "NUL": "\0" * 100,
}


@pytest.mark.parametrize("name", TEXTS)
def test_text_that_nobody_saved_is_refused_quickly(folder, name):
    text = TEXTS[name]
    content = text if isinstance(text, bytes) else text.encode()
    (folder / SETTINGS).write_bytes(content)
    refuse_quickly(folder, SETTINGS)


def test_huge_file_is_refused_unread(folder):
    for name in (SETTINGS, WEIGHTS):
        path = folder / name
        content = path.read_bytes()
        with path.open("wb") as file:
            # A gigabyte that takes no place on disk.
            file.truncate(10**9)
        refuse_quickly(folder, name)
        path.write_bytes(content)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"max_rhat": 1.01', '"max_rhat": NaN', "NaN is no finite number"),
        ('"max_rhat": 1.01', '"max_rhat": Infinity', "Infinity is no finite number"),
        ('"max_rhat": 1.01', '"max_rhat": 1e999', "1e999 is no finite number"),
        (
            '"num_candidates": 10000',
            '"num_candidates": 10000, "num_candidates": 10000',
            "a name stands twice",
        ),
        (
            '"num_candidates": 10000',
            '"num_candidates": 10001',
            "its content does not fit its hash",
        ),
        (
            '"num_candidates": 10000',
            '"num_candidates": 10000.0',
            "its content does not fit its hash",
        ),
    ],
)
@pytest.mark.parametrize("is_old", [True, False])
def test_what_json_reads_but_nobody_wrote_is_refused(
    folder, tmp_path, old, new, message, is_old
):
    if is_old:
        shutil.rmtree(folder)
        shutil.copytree(OLD, folder)
    text = (folder / SETTINGS).read_text()
    assert old in text
    (folder / SETTINGS).write_text(text.replace(old, new))
    if is_old and new == f"{COUNT}10001":
        # There was no hash then.
        assert MHPosterior.load(folder).parameters.num_candidates == 10001
        return
    if is_old and new == f"{COUNT}10000.0":
        message = "`num_candidates` must be a positive int, got 10000.0"
    with pytest.raises(ValueError, match=f"{SETTINGS} is damaged: {message}"):
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
