"""Saved posteriors come back the same, or say why not; nothing is unpickled."""

import json
import math
import pickle

import pytest
import torch
import torch._dynamo  # optimizers import it; it needs an unpickler to be defined
from linear_gaussian import PRIOR, SHORT, X_O, build_quadratic, draw_pairs, simulate
from safetensors.torch import load_file, save_file
from sbi.utils import BoxUniform, MultipleIndependent
from torch import distributions as d

from sbi_aalr import AALR, MHPosterior, networks
from sbi_aalr.mcmc import KERNELS
from sbi_aalr.networks.ensemble import average_log_ratios
from sbi_aalr.persistence.prior_json import decode_prior, encode_prior
from sbi_aalr.training.classifiers import CLASSIFIERS

THETA = draw_pairs(30, seed=1)[0]
WEIGHTS, SETTINGS = "posterior.safetensors", "posterior.json"


def build(classifier="selu_mlp", prior=PRIOR, **settings):
    trainer = AALR(prior, classifier, show_progress_bars=False)
    trainer.train_online(simulate, num_simulations=200, batch_size=50, seed=1)
    posterior = trainer.build_posterior()
    posterior.parameters = posterior.parameters.with_param(**settings)
    return posterior.set_default_x(X_O)


@pytest.fixture
def folder(tmp_path):
    return build().save(tmp_path / "run")


@pytest.fixture(autouse=True)
def forbid_unpickling(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("Something was unpickled.")

    for module, name in ((pickle, "load"), (pickle, "loads"), (torch, "load")):
        monkeypatch.setattr(module, name, refuse)
    monkeypatch.setattr(pickle, "Unpickler", refuse)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_saved_posterior_comes_back_the_same(tmp_path, classifier):
    posterior = build(classifier, num_chains=20, max_rhat=None, min_ess=300.0)
    assert posterior.save(tmp_path / "a" / "run") == tmp_path / "a" / "run"
    loaded = MHPosterior.load(tmp_path / "a" / "run")
    names = sorted(path.name for path in (tmp_path / "a" / "run").iterdir())
    assert names == [SETTINGS, WEIGHTS]
    assert loaded.parameters == posterior.parameters
    assert torch.equal(loaded.default_x, posterior.default_x)
    assert torch.equal(loaded.log_prob(THETA), posterior.log_prob(THETA))
    expected = posterior.sample((30,), seed=3, **SHORT)
    assert torch.equal(loaded.sample((30,), seed=3, **SHORT), expected)


def test_saved_ensemble_comes_back_the_same(tmp_path):
    members = [
        build(name).potential_fn.ratio_estimator for name in ("two_towers", "selu_mlp")
    ]
    posterior = MHPosterior.from_estimator(average_log_ratios(members), PRIOR)
    posterior.save(tmp_path)
    loaded = MHPosterior.load(tmp_path)
    expected = posterior.log_prob(THETA, x=X_O)
    assert torch.equal(loaded.log_prob(THETA, x=X_O), expected)


def test_ensemble_of_own_networks_must_be_given_again(tmp_path):
    members = [build(build_quadratic).potential_fn.ratio_estimator] * 2
    MHPosterior.from_estimator(average_log_ratios(members), PRIOR).save(tmp_path)
    with pytest.raises(ValueError, match=r"a classifier that JSON .*classifier=\.\.\."):
        MHPosterior.load(tmp_path)

    def rebuild(theta, x):
        return average_log_ratios([build_quadratic(theta, x) for _ in range(2)])

    loaded = MHPosterior.load(tmp_path, classifier=rebuild)
    assert torch.equal(
        loaded.log_prob(THETA, x=X_O),
        MHPosterior.from_estimator(average_log_ratios(members), PRIOR).log_prob(
            THETA, x=X_O
        ),
    )


def test_default_x_may_be_missing_and_files_replaced(folder):
    posterior = build()
    posterior._x = None
    posterior.save(folder)
    assert MHPosterior.load(folder).default_x is None


def test_settings_can_be_replaced_when_loading(folder):
    assert MHPosterior.load(folder, num_chains=7).parameters.num_chains == 7
    with pytest.raises(ValueError, match="'num_chain' is not a valid field"):
        MHPosterior.load(folder, num_chain=7)
    with pytest.raises(ValueError, match="`num_chains` must be a positive int, got -7"):
        MHPosterior.load(folder, num_chains=-7)


def test_own_network_must_be_given_again(tmp_path):
    posterior = build(build_quadratic)
    posterior.save(tmp_path)
    with pytest.raises(ValueError, match=r"a classifier that JSON .*classifier=\.\.\."):
        MHPosterior.load(tmp_path)
    loaded = MHPosterior.load(tmp_path, classifier=build_quadratic)
    assert torch.equal(loaded.log_prob(THETA), posterior.log_prob(THETA))
    with pytest.raises(ValueError, match="do not fit the classifier"):
        MHPosterior.load(tmp_path, classifier=networks.mlp((8,)))


class Shifted(d.MultivariateNormal):
    pass


def test_own_prior_must_be_given_again(tmp_path):
    prior = Shifted(torch.ones(2), torch.eye(2), validate_args=False)
    posterior = build(prior=prior)
    posterior.save(tmp_path)
    with pytest.raises(ValueError, match=r"a prior that JSON .*prior=\.\.\."):
        MHPosterior.load(tmp_path)
    loaded = MHPosterior.load(tmp_path, prior=prior)
    assert torch.equal(loaded.log_prob(THETA), posterior.log_prob(THETA))


def test_own_kernel_must_be_given_again(tmp_path):
    kernel = KERNELS["random_walk"]
    build(kernel=kernel).save(tmp_path)
    with pytest.raises(ValueError, match=r"a kernel that JSON .*kernel=\.\.\."):
        MHPosterior.load(tmp_path)
    assert MHPosterior.load(tmp_path, kernel=kernel).parameters.kernel is kernel


def test_posterior_without_estimator_cannot_be_saved(tmp_path):
    posterior = MHPosterior(lambda theta, x: theta.sum(-1), proposal=PRIOR)
    with pytest.raises(TypeError, match="Only posteriors with a ratio estimator"):
        posterior.save(tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", [WEIGHTS, SETTINGS])
def test_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"`folder` must .*{name} is missing"):
        MHPosterior.load(folder)


@pytest.mark.parametrize("name", [WEIGHTS, SETTINGS])
@pytest.mark.parametrize("keep", [0, 0.5, 0.99])
def test_truncated_file_is_named(folder, name, keep):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(keep * len(content))])
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        MHPosterior.load(folder)


def test_pickle_in_place_of_weights_is_refused(folder):
    (folder / WEIGHTS).write_bytes(pickle.dumps({"estimator.net": [1.0]}))
    with pytest.raises(ValueError, match=f"{WEIGHTS} is damaged"):
        MHPosterior.load(folder)


def edit(folder, **changes):
    document = json.loads((folder / SETTINGS).read_text())
    for name, value in changes.items():
        if value is ...:
            del document[name]
        else:
            document[name] = value
    (folder / SETTINGS).write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 99}, "must have format 1, got 99. It was written by sbi_aalr"),
        ({"format": ...}, f"{SETTINGS} is damaged"),
        ({"prior": ...}, "`prior` is missing"),
        ({"classifier": ...}, "`classifier` is missing"),
        ({"parameters": 3}, "`parameters` is missing or wrong"),
        ({"parameters": {}}, "`kernel` is missing"),
        ({"x_shape": [3]}, "do not fit the classifier"),
        ({"classifier": "mpl"}, "`classifier` must be one of"),
        ({"prior": {"type": "os.system"}}, "prior is damaged: .*unknown"),
        ({"prior": {"type": "Uniform"}}, "prior is damaged: KeyError"),
    ],
)
def test_damaged_settings_are_named(folder, changes, message):
    edit(folder, **changes)
    with pytest.raises(ValueError, match=message):
        MHPosterior.load(folder)


def test_other_json_is_refused(folder):
    (folder / SETTINGS).write_text("[1, 2]")
    with pytest.raises(ValueError, match=f"{SETTINGS} is damaged"):
        MHPosterior.load(folder)


def test_missing_weights_are_named(folder):
    tensors = load_file(folder / WEIGHTS)
    tensors.popitem()
    save_file(
        {k: v for k, v in tensors.items() if "0.weight" not in k}, folder / WEIGHTS
    )
    with pytest.raises(ValueError, match="do not fit the classifier"):
        MHPosterior.load(folder)


def test_failure_leaves_what_was_there_before(folder, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        build().save(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def of(*values):
    return torch.tensor(values)


PRIORS = [
    BoxUniform(of(-1.0, 0.1), of(2.0, 1 / 3)),
    d.MultivariateNormal(of(0.1, 0.2), of([2.0, 0.3], [0.3, 1.0])),
    d.MultivariateNormal(of(0.1, 0.2), scale_tril=of([2.0, 0.0], [0.3, 1 / 3])),
    d.MultivariateNormal(of(0.1, 0.2).double(), of([2.0, 0.3], [0.3, 1.0]).double()),
    d.Independent(d.Normal(of(0.1, math.pi), of(1.0, 2.0)), 1),
    d.Independent(d.Independent(d.Normal(of([0.1, 0.2]), of([1.0, 2.0])), 1), 1),
    MultipleIndependent([d.Gamma(of(2.0), of(1.0)), d.Uniform(of(0.0), of(0.3))]),
    d.Dirichlet(of(1.0, 2.0, 3.0)),
    *(
        d.Independent(prior, 1)
        for prior in (
            d.Beta(of(1.0, 2.0), of(3.0, 0.1)),
            d.Cauchy(of(0.1, 0.2), of(1.0, 2.0)),
            d.Exponential(of(0.1, 2.0)),
            d.Gamma(of(0.1, 2.0), of(1.0, 3.0)),
            d.Gumbel(of(0.1, 2.0), of(1.0, 3.0)),
            d.HalfCauchy(of(0.1, 2.0)),
            d.HalfNormal(of(0.1, 2.0)),
            d.InverseGamma(of(0.1, 2.0), of(1.0, 3.0)),
            d.Laplace(of(0.1, 2.0), of(1.0, 3.0)),
            d.LogNormal(of(0.1, 2.0), of(1.0, 3.0)),
            d.Pareto(of(0.1, 2.0), of(1.0, 3.0)),
            d.StudentT(of(3.0, 4.0), of(0.1, 0.2), of(1.0, 2.0)),
            d.Uniform(of(0.1, 0.2).double(), of(1.0, 2.0).double()),
        )
    ),
]


@pytest.mark.parametrize("prior", PRIORS, ids=str)
def test_prior_comes_back_the_same(prior):
    document = json.loads(json.dumps(encode_prior(prior), allow_nan=False))
    copy = decode_prior(document)
    assert type(copy) is type(prior)
    torch.manual_seed(0)
    draws = prior.sample((20,))
    torch.manual_seed(0)
    assert torch.equal(copy.sample((20,)), draws)
    assert copy.sample().dtype == prior.sample().dtype
    assert torch.equal(copy.log_prob(draws), prior.log_prob(draws))


def test_unknown_priors_are_not_written():
    assert encode_prior(d.Poisson(of(1.0))) is None
    assert encode_prior(d.Independent(d.Poisson(of(1.0)), 1)) is None
    assert encode_prior(d.Normal(of(1.0).half(), of(1.0).half())) is None
    assert encode_prior(Shifted(torch.ones(2), torch.eye(2))) is None
