import arviz_plots
import arviz_stats
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import xarray as xr
from linear_gaussian import NOISE, PRIOR, X_O, exact_posterior, simulate
from torch.distributions import MultivariateNormal

from sbi_aalr.diagnostics import add_predictive, to_datatree


def draw_exact(num_chains, num_draws, trials=X_O):
    torch.manual_seed(0)
    mean, scale = exact_posterior(trials)
    return mean + scale * torch.randn(num_chains, num_draws, 2)


@pytest.fixture
def tree():
    return to_datatree(
        draw_exact(4, 1_000),
        observed_data=X_O,
        parameter_names=["rate", "size"],
        attributes={"seed": 3},
    )


def test_groups_are_those_of_the_schema_and_the_rest_is_untouched(tree):
    full = add_predictive(tree, simulate, PRIOR, num_draws=500, seed=1)
    added = {"prior", "prior_predictive", "posterior_predictive"}
    assert set(full.children) == {*tree.children, *added}
    assert set(tree.children) == {"posterior", "observed_data"}
    for name in tree.children:
        assert full[name].to_dataset().identical(tree[name].to_dataset())
    assert dict(full["prior"]["theta"].sizes) == {
        "chain": 1,
        "draw": 500,
        "parameter": 2,
    }
    assert full["prior"]["parameter"].values.tolist() == ["rate", "size"]
    assert full["prior_predictive"]["x"].dims == ("chain", "draw", "x_dim_0")
    assert full["posterior_predictive"]["x"].shape == (4, 125, 2)
    assert full["prior_predictive"].attrs["seed"] == 3
    assert full.attrs == tree.attrs


def test_draws_have_the_moments_they_must(tree):
    full = add_predictive(tree, simulate, PRIOR, num_draws=4_000, seed=1)
    mean, scale = exact_posterior(X_O)
    spread = (scale**2 + NOISE**2) ** 0.5
    predicted = full["posterior_predictive"]["x"].values.reshape(-1, 2)
    assert len(predicted) == 4_000
    error = np.abs(predicted.mean(axis=0) - mean.numpy()) / (spread / 4_000**0.5)
    assert error.max() < 5
    assert np.abs(predicted.std(axis=0) / spread - 1).max() < 5 / 8_000**0.5
    # The control: the prior's predictions are around zero.
    prior_x = full["prior_predictive"]["x"].values.reshape(-1, 2)
    error = np.abs(prior_x.mean(axis=0)) / ((1 + NOISE**2) ** 0.5 / 4_000**0.5)
    assert error.max() < 5
    assert np.abs(prior_x.mean(axis=0) - mean.numpy()).min() > 0.2


def test_each_prediction_comes_from_its_own_draw():
    theta = 1_000.0 * torch.arange(6.0).reshape(2, 3, 1) + torch.zeros(2, 3, 2)
    tree = to_datatree(theta, observed_data=X_O)
    x = add_predictive(tree, simulate, PRIOR, num_draws=6, seed=1)
    gap = x["posterior_predictive"]["x"].values - theta.numpy()
    assert np.abs(gap).max() < 10


def test_several_observations_have_predictions_each():
    theta = draw_exact(4, 60).unsqueeze(2) + 1_000 * torch.arange(3.0)[:, None]
    x_o = torch.stack((X_O, X_O, X_O))
    tree = to_datatree(theta, observed_data=x_o)
    x = add_predictive(tree, simulate, PRIOR, num_draws=80, seed=1)
    predicted = x["posterior_predictive"]["x"]
    assert predicted.dims == ("chain", "draw", "observation", "x_dim_0")
    assert predicted.shape == (4, 20, 3, 2)
    centre = predicted.mean(("chain", "draw")).values
    assert np.abs(centre - 1_000 * np.arange(3.0)[:, None]).max() < 10


def test_trials_are_predicted_as_many_as_were_seen():
    trials = X_O.expand(5, 2)
    tree = to_datatree(draw_exact(4, 50, trials), observed_data=trials)
    full = add_predictive(tree, simulate, PRIOR, num_draws=100, seed=1)
    assert full["posterior_predictive"]["x"].dims == (
        "chain",
        "draw",
        "trial",
        "x_dim_0",
    )
    assert full["posterior_predictive"]["x"].shape == (4, 25, 5, 2)
    assert full["prior_predictive"]["x"].shape == (1, 100, 5, 2)


def test_images_keep_their_shape():
    def simulate_images(theta):
        return theta[:, :1, None] + torch.zeros(len(theta), 3, 4)

    tree = to_datatree(draw_exact(2, 20), observed_data=torch.zeros(1, 3, 4))
    full = add_predictive(tree, simulate_images, PRIOR, num_draws=10, seed=1)
    assert full["posterior_predictive"]["x"].shape == (2, 5, 3, 4)


def test_same_seed_gives_same_draws(tree):
    first, second, other = (
        add_predictive(tree, simulate, PRIOR, num_draws=10, seed=seed)
        for seed in (1, 1, 2)
    )
    for name in ("prior", "prior_predictive", "posterior_predictive"):
        assert first[name].equals(second[name])
        assert not first[name].equals(other[name])


@pytest.mark.parametrize(
    ("plot", "num_axes"),
    [
        ("plot_ppc_dist", 1),
        ("plot_ppc_tstat", 1),
        ("plot_prior_posterior", 2),
        ("plot_ess_evolution", 2),
    ],
)
def test_arvizs_plots_draw_curves_of_the_tree(tree, plot, num_axes):
    full = add_predictive(tree, simulate, PRIOR, num_draws=400, seed=1)
    getattr(arviz_plots, plot)(full, backend="matplotlib")
    axes = [one for one in plt.gcf().axes if one.lines]
    assert len(axes) == num_axes
    for one in axes:
        longest = max(one.lines, key=lambda line: len(line.get_xdata()))
        assert len(longest.get_xdata()) > 5
        assert np.isfinite(longest.get_xydata()).all()
    plt.close("all")


def test_tree_survives_netcdf_and_arviz_stats(tree, tmp_path):
    full = add_predictive(tree, simulate, PRIOR, num_draws=40, seed=1)
    full.to_netcdf(tmp_path / "full.nc", engine="h5netcdf")
    with xr.open_datatree(tmp_path / "full.nc") as stored:
        assert stored["posterior_predictive"].equals(full["posterior_predictive"])
    table = arviz_stats.summary(full, group="prior_predictive", kind="stats")
    assert len(table) == 2


def test_what_does_not_fit_is_refused(tree):
    with pytest.raises(ValueError, match="must have a group `observed_data`, got"):
        add_predictive(to_datatree(draw_exact(2, 10)), simulate, PRIOR)
    with pytest.raises(ValueError, match=r"rows of shape \(2,\), as those observed"):
        add_predictive(tree, lambda theta: theta[:, :1], PRIOR)
    with pytest.raises(TypeError, match="`prior` must be a torch Distribution"):
        add_predictive(tree, simulate, None)
    with pytest.raises(TypeError, match="`datatree` must be a DataTree, got str"):
        add_predictive("chains.nc", simulate, PRIOR)
    wide = MultivariateNormal(torch.zeros(3), torch.eye(3))
    with pytest.raises(ValueError, match="`prior` must have 2 parameters, got 3"):
        add_predictive(tree, simulate, wide)
    with pytest.raises(ValueError, match="`num_draws` must be a positive int"):
        add_predictive(tree, simulate, PRIOR, num_draws=0)
