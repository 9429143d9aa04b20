"""Saved posteriors come back the same, or say why not; nothing is unpickled."""

import pickle

import pytest
import torch
import torch._dynamo  # optimizers import it; it needs an unpickler to be defined
from linear_gaussian import PRIOR, SHORT, X_O, build_quadratic, draw_pairs, simulate
from torch import distributions as d

from sbi_aalr import AALR, MHPosterior, networks
from sbi_aalr.errors import UnsavedPriorWarning
from sbi_aalr.files import read_sealed, write_sealed
from sbi_aalr.mcmc import KERNELS
from sbi_aalr.networks.ensemble import average_log_ratios
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
    assert torch.equal(loaded.potential(THETA), posterior.potential(THETA))
    expected = posterior.sample((30,), seed=3, **SHORT)
    assert torch.equal(loaded.sample((30,), seed=3, **SHORT), expected)


def test_saved_ensemble_comes_back_the_same(tmp_path):
    members = [
        build(name).potential_fn.ratio_estimator for name in ("two_towers", "selu_mlp")
    ]
    posterior = MHPosterior.from_estimator(average_log_ratios(members), PRIOR)
    posterior.save(tmp_path)
    loaded = MHPosterior.load(tmp_path)
    expected = posterior.potential(THETA, x=X_O)
    assert torch.equal(loaded.potential(THETA, x=X_O), expected)


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


def test_logarithms_of_wide_features_come_back(tmp_path):
    theta = 10 ** torch.linspace(-6, 0, 100).reshape(50, 2)
    estimator = networks.two_towers(8, 1)(theta, theta)
    estimator.classifier_name = "two_towers"
    estimator.classifier_settings = {"hidden_features": 8, "num_blocks": 1}
    posterior = MHPosterior.from_estimator(estimator, PRIOR).set_default_x(theta[0])
    posterior.save(tmp_path)
    assert "embedding_net_x.0.logarithmic" in estimator.state_dict()
    loaded = MHPosterior.load(tmp_path)
    assert torch.equal(loaded.potential(theta), posterior.potential(theta))


def test_own_network_must_be_given_again(tmp_path):
    posterior = build(build_quadratic)
    posterior.save(tmp_path)
    with pytest.raises(ValueError, match=r"a classifier that JSON .*classifier=\.\.\."):
        MHPosterior.load(tmp_path)
    loaded = MHPosterior.load(tmp_path, classifier=build_quadratic)
    assert torch.equal(loaded.log_prob(THETA), posterior.log_prob(THETA))
    message = r"do not fit the classifier .* Give the same `classifier` as in training"
    with pytest.raises(ValueError, match=message):
        MHPosterior.load(tmp_path, classifier=networks.mlp((8,)))


class Shifted(d.MultivariateNormal):
    pass


def test_own_prior_must_be_given_again(tmp_path):
    prior = Shifted(torch.ones(2), torch.eye(2), validate_args=False)
    posterior = build(prior=prior)
    with pytest.warns(UnsavedPriorWarning, match=r"a Shifted, was not .*--prior"):
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
    document = read_sealed(folder / SETTINGS)
    for name, value in changes.items():
        if value is ...:
            del document[name]
        else:
            document[name] = value
    write_sealed(folder / SETTINGS, document)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"format": 99},
            "must have format 2 or an earlier one, got 99. It was written by sbi_aalr",
        ),
        ({"format": ...}, f"{SETTINGS} must have format 2 .*got None"),
        ({"prior": ...}, "`prior` is missing"),
        ({"classifier": ...}, "`classifier` is missing"),
        ({"parameters": 3}, "`parameters` is missing or wrong"),
        ({"parameters": {}}, "`kernel` is missing"),
        ({"x_shape": [3]}, "do not fit the classifier in posterior.json: `net.0"),
        ({"classifier": "mpl"}, "`classifier` must be one of"),
        ({"prior": {"type": "os.system"}}, "prior is damaged: .*describes nothing"),
        ({"prior": {"type": "Uniform"}}, "prior is damaged: .*describes nothing"),
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


def test_failure_leaves_what_was_there_before(folder, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        build().save(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
