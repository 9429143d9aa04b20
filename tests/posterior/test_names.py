"""Names are given once, and then are wherever a parameter is shown."""

import numpy as np
import pytest
import torch
import xarray as xr
from linear_gaussian import PRIOR, SHORT, X_O, simulate
from sbi.utils import BoxUniform

from sbi_aalr import AALR, MHPosterior
from sbi_aalr.diagnostics import summary
from sbi_aalr.errors import ConvergenceWarning
from sbi_aalr.files import read_sealed, write_sealed

NAMES = [f"p{index}" for index in range(1, PRIOR.event_shape[0] + 1)]
FEW = {"num_simulations": 200, "batch_size": 50, "seed": 1}
FEW_STEPS = {"warmup_steps": 0, "thin": 1, "max_steps": 30, "num_chains": 10}


def make_trainer(**settings):
    return AALR(PRIOR, "mlp", show_progress_bars=False, **settings)


class Named(BoxUniform):
    """A prior that says what its parameters are called."""

    parameter_names = ("left", "right")


@pytest.fixture(scope="module")
def posterior():
    trainer = make_trainer(parameter_names=NAMES)
    trainer.train_online(simulate, **FEW)
    made = trainer.build_posterior().set_default_x(X_O)
    made.sample((40,), seed=1, **SHORT)
    return made


def test_names_of_the_trainer_are_in_tables_trees_and_figures(posterior):
    assert posterior.parameter_names == NAMES
    assert posterior.summary().index.tolist() == NAMES
    assert posterior.diagnostics()["parameter"].values.tolist() == NAMES
    tree = posterior.to_datatree()
    assert tree["posterior"]["parameter"].values.tolist() == NAMES
    others = [name.upper() for name in NAMES]
    assert posterior.summary(parameter_names=others).index.tolist() == others


def test_names_are_in_the_warning_of_chains(posterior):
    with pytest.warns(ConvergenceWarning, match=r"`p\d`"):
        posterior.sample((40,), seed=1, show_progress_bars=False, **FEW_STEPS)


def test_names_are_saved_and_may_be_changed(posterior, tmp_path):
    posterior.save(tmp_path)
    assert MHPosterior.load(tmp_path).parameter_names == NAMES
    others = [name.upper() for name in NAMES]
    loaded = MHPosterior.load(tmp_path, parameter_names=others)
    assert loaded.parameter_names == others
    posterior.sample((40,), seed=1, out=tmp_path / "a.nc", **SHORT)
    with xr.open_datatree(tmp_path / "a.nc") as tree:
        assert tree["posterior"]["parameter"].values.tolist() == NAMES


@pytest.mark.parametrize("names", [NAMES[:1], NAMES[:1] * 2, "ab", [1, 2], {"a": 1}, 3])
def test_damaged_names_are_refused(posterior, tmp_path, names):
    posterior.save(tmp_path)
    path = tmp_path / "posterior.json"
    write_sealed(path, {**read_sealed(path), "parameter_names": names})
    with pytest.raises(ValueError, match=r"posterior.json is damaged"):
        MHPosterior.load(tmp_path)


def test_posterior_without_names_writes_none(tmp_path):
    trainer = make_trainer()
    trainer.train_online(simulate, **FEW)
    trainer.build_posterior().save(tmp_path)
    assert "parameter_names" not in read_sealed(tmp_path / "posterior.json")
    assert MHPosterior.load(tmp_path).parameter_names == [
        f"theta_{index}" for index in range(1, len(NAMES) + 1)
    ]


def test_names_may_be_a_field_of_the_prior():
    prior = Named(torch.zeros(2), torch.ones(2))
    posterior = MHPosterior(lambda theta, x: theta.sum(-1), prior)
    assert posterior.parameter_names == ["left", "right"]
    given = MHPosterior(
        lambda theta, x: theta.sum(-1), prior, parameter_names=["u", "v"]
    )
    assert given.parameter_names == ["u", "v"]


@pytest.mark.parametrize(
    "names", [["a"], ["a", "a"], "ab", [1, 2], ["", "b"], 3, ["a", "b", "c"]]
)
def test_names_that_do_not_fit_are_refused_at_the_start(names):
    prior = BoxUniform(torch.zeros(2), torch.ones(2))
    with pytest.raises(ValueError, match="`parameter_names` must be"):
        AALR(prior, parameter_names=names)
    with pytest.raises(ValueError, match="`parameter_names` must be"):
        MHPosterior(lambda theta, x: theta.sum(-1), prior, parameter_names=names)


def test_split_tree_has_a_variable_for_each_parameter(posterior):
    tree, split = posterior.to_datatree(), posterior.to_datatree(split=True)
    assert list(split["posterior"].data_vars) == NAMES
    assert list(split["warmup_posterior"].data_vars) == NAMES
    for index, name in enumerate(NAMES):
        values = split["posterior"][name]
        assert values.dims == ("chain", "draw")
        assert np.array_equal(values, tree["posterior"]["theta"][..., index])
    # Tables read either; layouts in memory differ, and so does rounding.
    assert np.allclose(summary(split), summary(tree), rtol=1e-5)


def test_split_tree_comes_back_from_a_file_in_order(posterior, tmp_path):
    backwards = [f"z{9 - index}" for index in range(len(NAMES))]
    split = posterior.to_datatree(parameter_names=backwards, split=True)
    split.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with xr.open_datatree(tmp_path / "a.nc") as stored:
        assert summary(stored).index.tolist() == backwards


@pytest.mark.parametrize("name", ["a/b", "draw"])
def test_split_tree_refuses_what_is_no_name_of_a_variable(posterior, name):
    names = [name, *NAMES[1:]]
    with pytest.raises(ValueError, match="where each is a variable of its own"):
        posterior.to_datatree(parameter_names=names, split=True)
