"""Chains to ArviZ: layout, values, NetCDF, and what a wrong transpose would hide."""

import arviz_stats
import numpy as np
import pytest
import torch
import xarray as xr
from known_draws import make_chains

from sbi_aalr import __version__
from sbi_aalr.diagnostics import summary, to_datatree
from sbi_aalr.mcmc.chains import Chains
from sbi_aalr.mcmc.convergence import Convergence


def test_to_datatree_batch_has_documented_groups_dims_and_coords():
    tree = to_datatree(
        make_chains(), warmup=make_chains(num_draws=7), observed_data=np.ones((3, 8))
    )
    assert set(tree.children) == {
        "posterior",
        "sample_stats",
        "warmup_posterior",
        "warmup_sample_stats",
        "observed_data",
    }
    for name, num_draws in (("", 5), ("warmup_", 7)):
        theta = tree[f"{name}posterior"]["theta"]
        assert theta.dims == ("chain", "draw", "observation", "parameter")
        assert theta.shape == (2, num_draws, 3, 4)
        assert list(theta["draw"].values) == list(range(num_draws))
        statistics = tree[f"{name}sample_stats"]
        assert set(statistics.data_vars) == {"lp", "acceptance_rate", "accepted"}
        for variable in statistics.data_vars.values():
            assert variable.dims == ("chain", "draw", "observation")
    assert list(tree["posterior"]["parameter"].values) == [
        "theta_1",
        "theta_2",
        "theta_3",
        "theta_4",
    ]
    assert list(tree["posterior"]["observation"].values) == [0, 1, 2]
    assert tree["sample_stats"]["accepted"].dtype == bool
    assert tree["observed_data"]["x"].dims == ("observation", "x_dim_0")


def test_to_datatree_keeps_every_value_in_its_place():
    chains = make_chains()
    tree = to_datatree(chains)
    for c, s, b, d in np.ndindex(2, 5, 3, 4):
        where = {"chain": c, "draw": s, "observation": b}
        value = tree["posterior"]["theta"].isel(**where, parameter=d)
        assert float(value) == 1000 * c + 100 * s + 10 * b + d
        statistics = tree["sample_stats"].to_dataset().isel(where)
        assert float(statistics["lp"]) == 1000 * c + 100 * s + 10 * b
        rate = chains.acceptance_rate[c, s, b]
        assert float(statistics["acceptance_rate"]) == float(rate)
        assert bool(statistics["accepted"]) == bool(chains.accepted[c, s, b])


@pytest.mark.parametrize(
    ("batched", "dims"),
    [
        (None, ("chain", "draw", "parameter")),
        (False, ("chain", "draw", "parameter")),
        (True, ("chain", "draw", "observation", "parameter")),
    ],
)
def test_to_datatree_one_observation_has_a_dimension_if_batched(batched, dims):
    tree = to_datatree(make_chains(num_observations=1), batched=batched)
    assert tree["posterior"]["theta"].dims == dims
    assert tree["sample_stats"]["lp"].dims == dims[:-1]


@pytest.mark.parametrize("convert", [torch.as_tensor, torch.Tensor.numpy])
def test_to_datatree_takes_bare_draws_without_statistics(convert):
    theta = make_chains().theta
    tree = to_datatree(convert(theta[:, :, 1]), warmup=convert(theta[:, :2, 1]))
    assert set(tree.children) == {"posterior", "warmup_posterior"}
    assert tree["posterior"]["theta"].dims == ("chain", "draw", "parameter")
    np.testing.assert_array_equal(tree["posterior"]["theta"], theta[:, :, 1])
    tree = to_datatree(convert(theta[:, :, :1]))
    assert tree["posterior"]["theta"].dims[2] == "observation"


def test_to_datatree_many_short_chains_do_not_warn():
    to_datatree(make_chains(num_chains=20, num_draws=3))


def test_to_datatree_empty_warmup_gives_no_groups():
    tree = to_datatree(make_chains(), warmup=make_chains(num_draws=0))
    assert set(tree.children) == {"posterior", "sample_stats"}


@pytest.mark.parametrize(
    ("shape", "dims"),
    [
        ((), ()),
        ((8,), ("x_dim_0",)),
        ((1, 8), ("x_dim_0",)),
        ((6, 8), ("trial", "x_dim_0")),
        ((1, 28, 28), ("x_dim_0", "x_dim_1")),
        ((6, 28, 28), ("trial", "x_dim_0", "x_dim_1")),
    ],
)
def test_to_datatree_single_observation_names_dims_of_data(shape, dims):
    x = torch.arange(float(np.prod(shape))).reshape(shape)
    tree = to_datatree(make_chains(num_observations=1), observed_data=x)
    assert tree["observed_data"]["x"].dims == dims
    kept = tree["observed_data"]["x"].values
    np.testing.assert_array_equal(kept, x.numpy().reshape(kept.shape))


def test_to_datatree_attributes_say_what_made_it():
    tree = to_datatree(
        make_chains(), attributes={"kernel": "random_walk", "thin": 10, "seed": None}
    )
    for node in (tree, tree["posterior"], tree["sample_stats"]):
        assert node.attrs["inference_library"] == "sbi_aalr"
        assert node.attrs["inference_library_version"] == __version__
        assert node.attrs["kernel"] == "random_walk"
        assert node.attrs["thin"] == 10
        assert "seed" not in node.attrs
    assert tree.attrs["created_at"] == tree["posterior"].attrs["created_at"]


def test_to_datatree_round_trips_through_netcdf(tmp_path):
    tree = to_datatree(
        make_chains(),
        warmup=make_chains(num_draws=2),
        observed_data=torch.ones(3, 8),
        parameter_names=["α", "infection rate", "r₀", "s"],
        attributes={
            "nothing": None,
            "flag": True,
            "proposal_scale": [0.1, 0.2],
            "scale_tensor": torch.tensor([1.0, 2.0]),
            "count": np.int32(3),
            "rate": torch.tensor(0.25),
            "seed": 2**64 - 1,
            "note": "",
            "device": torch.device("cpu"),
            "options": {"a": None, "b": [True]},
        },
    )
    path = tmp_path / "chains.nc"
    tree.to_netcdf(path)
    with xr.open_datatree(path) as stored:
        assert set(stored.children) == set(tree.children)
        for name, group in tree.children.items():
            xr.testing.assert_equal(stored[name].to_dataset(), group.to_dataset())
        assert stored["sample_stats"]["accepted"].dtype == bool
        assert stored["posterior"]["theta"].dtype == np.float32
        attributes = dict(stored["posterior"].attrs)
        assert stored.attrs["inference_library"] == "sbi_aalr"
        table = summary(stored)
    assert "nothing" not in attributes
    assert attributes["flag"] == 1
    assert attributes["proposal_scale"] == "[0.1, 0.2]"
    assert attributes["scale_tensor"] == "[1.0, 2.0]"
    assert attributes["count"] == 3
    assert attributes["rate"] == 0.25
    assert attributes["seed"] == str(2**64 - 1)
    assert attributes["note"] == ""
    assert attributes["device"] == '"cpu"'
    assert attributes["options"] == '{"a": null, "b": [true]}'
    assert table.equals(summary(tree))


def make_convergence(num_observations=3, num_parameters=4):
    """What a sampler may have measured: every number another one."""
    shape = (num_observations, num_parameters)
    numbers = torch.arange(1.0, 1.0 + num_observations * num_parameters).reshape(shape)
    return Convergence(
        r_hat=1 + numbers / 100,
        ess_bulk=100 * numbers,
        ess_tail=90 * numbers,
        stuck_chains=numbers.long() % 3,
        acceptance_rate=numbers[:, 0] / 100,
        num_steps=1_000 + torch.arange(num_observations),
        converged=torch.arange(num_observations) % 2 == 0,
    )


@pytest.mark.parametrize("num_observations", [1, 3])
@pytest.mark.parametrize("engine", ["h5netcdf", None])
def test_to_datatree_keeps_convergence_with_what_it_was_measured_on(
    num_observations, engine, tmp_path
):
    convergence = make_convergence(num_observations)
    tree = to_datatree(
        make_chains(num_observations=num_observations),
        convergence=convergence,
        attributes={"seed": 3, "num_chains": "many"},
    )
    tree.to_netcdf(tmp_path / "chains.nc", engine=engine)
    with xr.open_datatree(tmp_path / "chains.nc") as stored:
        for group in (tree["diagnostics"], stored["diagnostics"]):
            assert (group.attrs["num_chains"], group.attrs["num_draws"]) == (2, 5)
            assert group.attrs["seed"] == 3
            per = ("observation",) if num_observations > 1 else ()
            for name, values in convergence._asdict().items():
                variable = group[name]
                assert variable.dims == (*per, *["parameter"] * (values.ndim - 1))
                expected = values.numpy() if per else values.numpy()[0]
                np.testing.assert_array_equal(variable, expected)
                assert variable.dtype == values.numpy().dtype
            assert group["parameter"].values[0] == "theta_1"


def test_to_datatree_refuses_convergence_of_other_chains():
    message = r"`convergence` must have .* of `chains`, got \(2, 4\), not \(3, 4\)"
    with pytest.raises(ValueError, match=message):
        to_datatree(make_chains(), convergence=make_convergence(2))


def test_stuck_chain_shows_through_the_conversion_but_not_interleaved():
    generator = torch.Generator().manual_seed(3)
    theta = torch.randn(10, 1000, 1, 2, generator=generator)
    theta[4, ..., 1] = 2.5
    flags = torch.ones(10, 1000, 1)
    stuck = Chains(theta, flags, flags, flags.bool())
    rhat = arviz_stats.rhat(to_datatree(stuck))["theta"]
    assert float(rhat.sel(parameter="theta_1")) < 1.01
    assert float(rhat.sel(parameter="theta_2")) > 1.1
    # Negative control: rows of draws read as rows of chains spread the stuck chain
    # over all the others, and R-hat sees nothing.
    interleaved = theta.transpose(0, 1).reshape(theta.shape)
    rhat = arviz_stats.rhat(to_datatree(interleaved))["theta"]
    assert float(rhat.max()) < 1.01


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "b"], r"`parameter_names` must be 4 names, one a parameter, got 2"),
        (["a", "b", "a", "c"], r"`parameter_names` must be distinct"),
        (["a", "b", 3, "c"], r"`parameter_names` must be a list of strings"),
        ("abcd", r"`parameter_names` must be a list of strings, got 'abcd'"),
    ],
)
def test_to_datatree_refuses_wrong_names(names, message):
    with pytest.raises(ValueError, match=message):
        to_datatree(make_chains(), parameter_names=names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"chains": torch.ones(3, 4)}, r"must have shape \(chains, draws"),
        ({"chains": torch.ones(3, 0, 4)}, r"none of them empty, got \(3, 0, 4\)"),
        ({"batched": False}, r"`batched` must be True for 3 observations"),
        ({"warmup": torch.ones(9, 5, 3, 4)}, r"`warmup` must have the chains"),
        ({"warmup": torch.ones(2, 5, 4)}, r"`warmup` must have the chains"),
        ({"observed_data": torch.ones(2, 8)}, r"one row for each of 3 observations"),
        ({"observed_data": 1.0}, r"one row for each of 3 observations"),
    ],
)
def test_to_datatree_refuses_wrong_shapes(arguments, message):
    with pytest.raises(ValueError, match=message):
        to_datatree(**{"chains": make_chains(), **arguments})


@pytest.mark.parametrize("chains", ["chains.nc", None, [["a"]]])
def test_to_datatree_refuses_other_types(chains):
    with pytest.raises(
        TypeError, match="`chains` must be a tensor or an array of real"
    ):
        to_datatree(chains)


def test_to_datatree_names_what_else_is_no_number():
    with pytest.raises(TypeError, match="`observed_data` must be a tensor or an array"):
        to_datatree(make_chains(), observed_data="x.csv")
    with pytest.raises(TypeError, match="real numbers, got Tensor of complex64"):
        to_datatree(make_chains().theta + 0j)
    with pytest.raises(ValueError, match="`chains` must have rows of one length"):
        to_datatree([[[1.0], [2.0, 3.0]]])
