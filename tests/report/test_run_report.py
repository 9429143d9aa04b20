"""Reports of posteriors in memory."""

import re
import warnings

import pytest
import torch
from linear_gaussian import PRIOR, SHORT, X_O, log_ratio, simulate
from reports import read_words
from sbi.utils import BoxUniform

from sbi_aalr import MHPosterior
from sbi_aalr.errors import (
    CallOrderError,
    FarObservationWarning,
    OtherPriorWarning,
)
from sbi_aalr.mcmc.convergence import rhat
from sbi_aalr.persistence.run_store import read_run, write_run
from sbi_aalr.report.run_report import report_run


def test_posterior_report_without_a_simulator(posterior, fitted, unpictured, tmp_path):
    path = tmp_path / "page.html"
    with pytest.raises(CallOrderError, match="Call `sample` first"):
        posterior.report(path)
    posterior.sample((400,), x=X_O, seed=5, **SHORT)
    written = posterior.report(
        path,
        truth=torch.zeros(2),
        parameter_names=["rate", "size"],
        training=fitted.summary,
        title="My <galaxy>",
    )
    assert written == path
    words = read_words(path)
    assert "My &lt;galaxy&gt;" in words
    assert "rate" in words and "size" in words
    assert "seed=5" in words
    assert words.count("Not run") == 3
    # What was given is given back, and as many draws as were asked for.
    assert "posterior.sample((400,), x=x, seed=5" in words
    assert "truth=[0.0, 0.0]" in words and "training=trainer.summary" in words
    assert "[&#39;rate&#39;, &#39;size&#39;]" in words
    assert "title=&#39;My &lt;galaxy&gt;&#39;" in words
    assert "the log E[r] furthest from zero" in words
    assert "Training loss." in words


def test_posterior_report_with_a_simulator_keeps_the_run(
    posterior, hasty, unpictured, tmp_path
):
    posterior.sample((200,), x=X_O, seed=5, **SHORT)
    chains = posterior.chains
    path = posterior.report(
        tmp_path / "page.html", simulator=simulate, num_simulations=1_000, seed=1
    )
    assert posterior.chains is chains
    words = read_words(path)
    assert "Not run" not in words
    assert "AUC" in words and "Balanced" in words
    assert "simulator=simulator, num_simulations=1000, seed=1" in words


def test_posterior_report_of_several_observations(posterior, tmp_path):
    settings = {**SHORT, "num_chains": 4}
    posterior.sample_batched((100,), x=torch.stack((X_O, -X_O)), seed=5, **settings)
    path = posterior.report(tmp_path / "page.html", truth=torch.zeros(2, 2))
    html = path.read_text("utf-8")
    assert html.count("<details>") == 2
    assert "posterior.sample_batched((" in read_words(path)


def test_truth_that_the_prior_rules_out_is_told(unpictured, tmp_path):
    prior = BoxUniform(torch.zeros(2), torch.ones(2))
    posterior = MHPosterior(lambda theta, x_o: prior.log_prob(theta), prior)
    posterior.sample_batched((40,), x=torch.zeros(2, 1), seed=5, **SHORT)
    path = tmp_path / "page.html"
    truth = torch.tensor([[0.5, 0.5], [0.5, 5.0]])
    with pytest.warns(OtherPriorWarning, match="no density, in 1 of 2 rows"):
        posterior.report(path, truth=truth)
    with warnings.catch_warnings():
        warnings.simplefilter("error", OtherPriorWarning)
        posterior.report(path, truth=truth[0])


def test_posterior_report_refuses_what_does_not_fit(posterior, tmp_path):
    posterior.sample((40,), x=X_O, seed=5, **SHORT)
    path = tmp_path / "page.html"
    with pytest.raises(ValueError, match=r"`truth` must be finite and have shape"):
        posterior.report(path, truth=torch.zeros(3))
    with pytest.raises(ValueError, match="`num_simulations` must be a positive int"):
        posterior.report(path, num_simulations=0)
    with pytest.raises(IsADirectoryError, match="`path` must be a file"):
        posterior.report(tmp_path)
    with pytest.raises(ValueError, match="must be 2 names"):
        posterior.report(path, parameter_names=["rate"])
    bare = MHPosterior(lambda theta, x_o: log_ratio(theta, x_o), PRIOR)
    bare.sample((40,), x=X_O, seed=5, **SHORT)
    with pytest.raises(TypeError, match="only with a ratio estimator"):
        bare.report(path, simulator=simulate)
    assert not path.exists()


def test_posterior_report_warns_where_nobody_simulated(
    posterior, hasty, unpictured, tmp_path
):
    x_o = torch.tensor([40.0, -40.0])
    posterior.sample((40,), x=x_o, seed=5, **SHORT)
    with pytest.warns(FarObservationWarning, match="farther from the simulations"):
        posterior.report(
            tmp_path / "page.html", simulator=simulate, num_simulations=500
        )


def test_memory_and_disk_tell_the_same_of_many_chains(posterior, unpictured, tmp_path):
    """Above 128 chains R-hat is nested, which the file must remember."""
    settings = {**SHORT, "num_chains": 160, "kernel": "random_walk"}
    posterior.sample((160 * 8,), x=X_O, seed=5, **settings)
    nested = posterior.diagnostics()["r_hat"].values
    assert not torch.allclose(
        rhat(posterior.chains.theta)[0], torch.from_numpy(nested), atol=0.01
    )
    assert posterior.summary()["r_hat"].tolist() == nested.tolist()
    pages = [posterior.report(tmp_path / "memory.html", seed=1)]
    run = read_run(write_run(tmp_path / "run.nc", posterior.run), posterior.target)
    report_run(run, tmp_path / "disk.html", settings=posterior.parameters, seed=1)
    pages.append(tmp_path / "disk.html")
    told = [re.findall(r"R-hat is at most [\d.]+", read_words(page)) for page in pages]
    assert told[0] == told[1] == [f"R-hat is at most {nested.max():.4f}"]
