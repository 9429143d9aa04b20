"""Settings that nobody saved are refused, quickly and in little memory."""

import resource
import shutil
import time

import pytest
from small_posterior import OLD, SETTINGS, SMALL, WEIGHTS

from sbi_aalr import MHPosterior
from sbi_aalr.files import read_sealed, write_sealed


def refuse_quickly(folder, name):
    """Load a file that asks for much; it must cost little."""
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    with pytest.raises(ValueError, match=name) as caught:
        MHPosterior.load(folder)
    # Minutes if it were built. A process with millions of objects takes a second to
    # look for garbage among them.
    assert time.process_time() - started < 10
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


COUNT = '"num_candidates": '


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
        (f"{COUNT}10000", f"{COUNT}10000, {COUNT}10000", "a name stands twice"),
        (f"{COUNT}10000", f"{COUNT}10001", "its content does not fit its hash"),
        (f"{COUNT}10000", f"{COUNT}10000.0", "its content does not fit its hash"),
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
