"""A trainer that is saved and read again is the same trainer."""

import json
import shutil

import pytest
import torch
from linear_gaussian import PRIOR, build_quadratic, draw_pairs, simulate
from sbi.inference import NPE
from torch import nn
from trainers import FEW, SOON, append, make_trainer, weights

from sbi_aalr import AALR, networks
from sbi_aalr.errors import UnsavedPriorWarning
from sbi_aalr.simulation import SimulationStore
from sbi_aalr.training import RatioLoss

X_O = torch.tensor([[0.3, -0.2]])
QUIET = {"show_progress_bars": False}


class OwnPrior(torch.distributions.MultivariateNormal):
    """A prior that JSON cannot hold."""


pytestmark = pytest.mark.usefixtures("hasty_recipe")


def are_equal(first, second):
    theta, _, x = draw_pairs(50, 3)
    with torch.no_grad():
        assert torch.equal(first._neural_net(theta, x), second._neural_net(theta, x))
    assert first.summary == second.summary
    assert str(first) == str(second)
    return True


def save_and_load(trainer, folder, **given):
    trainer.save(folder)
    return AALR.load(folder, **QUIET, **given)


def draw(trainer):
    return trainer.build_posterior().sample(
        (100,), x=X_O, seed=1, show_progress_bars=False, num_chains=20
    )


@pytest.fixture(scope="module")
def stacked(hasty_recipe):
    trainer = AALR(PRIOR, parameter_names=["a", "b"], **QUIET)
    append(trainer, 200)
    trainer.train(seed=1, stop_after_epochs=1)
    return trainer


def test_stack_is_saved_with_all_that_was_fitted_for_it(stacked, tmp_path):
    loaded = save_and_load(stacked, tmp_path / "new" / "trainer")
    assert are_equal(stacked, loaded)
    assert len(loaded._structures) == len(stacked._structures) > 3
    # The stack is made of the trainer's structures, as before.
    places = {id(s.estimator) for s in loaded._structures}
    assert all(id(member) in places for member in loaded._neural_net.stacked)
    assert torch.equal(draw(stacked), draw(loaded))
    assert loaded._parameter_names == ["a", "b"]


def test_loaded_trainer_goes_on_as_the_saved_one_does(stacked, tmp_path):
    trainer = append(AALR(PRIOR, base="posterior", **QUIET), 100)
    before = weights(trainer.train(seed=1, stop_after_epochs=1))
    loaded = save_and_load(trainer, tmp_path)
    theta, _, x = draw_pairs(50, 8)
    results = []
    for one in (trainer, loaded):
        one.append_simulations(theta, x)
        results.append(one.train(resume_training=True, seed=2, stop_after_epochs=1))
    assert torch.equal(*map(weights, results))
    assert not torch.equal(weights(results[0])[:50], before[:50])
    trainer = append(make_trainer(networks.mlp((8,))))
    trainer.train(**SOON)
    builder = networks.mlp((8,))
    loaded = save_and_load(trainer, tmp_path, classifier=builder)
    first, second = (t.train(**SOON, resume_training=True) for t in (trainer, loaded))
    assert torch.equal(weights(first), weights(second))


@pytest.mark.parametrize("classifier", ["selu_mlp", "two_towers"])
def test_network_with_a_name_is_saved(classifier, tmp_path):
    trainer = make_trainer(classifier, loss=RatioLoss(1, balance=1.0))
    trainer.train_online(simulate, **FEW)
    loaded = save_and_load(trainer, tmp_path)
    assert are_equal(trainer, loaded)
    assert loaded._ratio_loss == trainer._ratio_loss
    first, second = (t.train_online(simulate, **FEW) for t in (trainer, loaded))
    assert torch.equal(weights(first), weights(second))


def test_trainer_that_has_not_been_trained_is_saved(tmp_path):
    loaded = save_and_load(append(AALR(**QUIET), 50), tmp_path)
    assert len(loaded.get_simulations()[0]) == 50
    assert loaded._prior is None and loaded._neural_net is None
    assert torch.equal(loaded.get_simulations()[1], draw_pairs(50, 1)[2])


def test_store_is_referred_to_and_found_again(tmp_path):
    store = SimulationStore(tmp_path / "job" / "sims.zarr")
    theta, _, x = draw_pairs(100, 1)
    store.append(theta, x)
    x[:3] = torch.nan
    store.append(theta, x)
    trainer = make_trainer("selu_mlp").append_simulations(store)
    trainer.train(**SOON)
    trainer.save(tmp_path / "job" / "run")
    # What others add later is not the trainer's, and folders may move together.
    store.append(*draw_pairs(10, 2)[::2])
    (tmp_path / "job").rename(tmp_path / "moved")
    loaded = AALR.load(tmp_path / "moved" / "run", **QUIET)
    assert are_equal(trainer, loaded)
    found, data, _ = loaded.get_simulations()
    assert len(found) == 197 and torch.equal(data[:100], draw_pairs(100, 1)[2])
    assert torch.equal(loaded._failures[0], trainer._failures[0])
    total = sum(f.stat().st_size for f in (tmp_path / "moved" / "run").iterdir())
    assert "x.0" not in (tmp_path / "moved" / "run" / "trainer.json").read_text()
    assert total < 600_000
    shutil.rmtree(tmp_path / "moved" / "sims.zarr")
    with pytest.raises(FileNotFoundError, match=r"in the store .* which is gone"):
        AALR.load(tmp_path / "moved" / "run")


def test_other_simulations_in_the_store_are_refused(tmp_path):
    store = SimulationStore(tmp_path / "sims.zarr")
    store.append(*draw_pairs(50, 1)[::2])
    make_trainer().append_simulations(store).save(tmp_path / "run")
    shutil.rmtree(tmp_path / "sims.zarr")
    SimulationStore(tmp_path / "sims.zarr").append(*draw_pairs(50, 2)[::2])
    with pytest.raises(ValueError, match="holds other simulations"):
        AALR.load(tmp_path / "run", classifier=build_quadratic)


def test_truncated_prior_is_saved(tmp_path):
    trainer = make_trainer("selu_mlp")
    trainer.train_truncated(
        simulate, X_O, 300, num_rounds=2, epsilon=0.2, seed=1, time_limit=1
    )
    loaded = save_and_load(trainer, tmp_path)
    assert are_equal(trainer, loaded)
    theta = PRIOR.sample((200,))
    kept = [t._truncated_prior.keeps(theta) for t in (trainer, loaded)]
    assert torch.equal(*kept) and 0 < kept[0].sum() < 200


def test_what_json_cannot_hold_is_asked_for(tmp_path):
    prior = OwnPrior(torch.zeros(2), torch.eye(2))
    trainer = append(make_trainer(networks.mlp((8,)), prior))
    trainer.train(**SOON)
    with pytest.warns(UnsavedPriorWarning, match=r"AALR\.load\(folder, prior="):
        trainer.save(tmp_path)
    with pytest.raises(ValueError, match=r"Pass the same one again: .*prior=\.\.\."):
        AALR.load(tmp_path)
    with pytest.raises(ValueError, match=r"Pass the same one .*classifier=\.\.\."):
        AALR.load(tmp_path, prior=prior)
    again = {"prior": prior, "classifier": networks.mlp((8,))}
    assert are_equal(trainer, AALR.load(tmp_path, **again, **QUIET))
    with pytest.raises(ValueError, match="is damaged"):
        AALR.load(tmp_path, **{**again, "classifier": networks.mlp((9,))})


def test_another_prior_than_the_one_saved_is_refused(tmp_path):
    make_trainer("selu_mlp").save(tmp_path)
    other = torch.distributions.MultivariateNormal(torch.ones(2), torch.eye(2))
    with pytest.raises(ValueError, match="`prior` must be the one that the trainer"):
        AALR.load(tmp_path, prior=other)


def test_embedding_net_is_given_again_with_any_weights(tmp_path):
    def build():
        return nn.Sequential(nn.Linear(2, 5), nn.SELU())

    trainer = append(AALR(PRIOR, embedding_net_x=build(), **QUIET), 200)
    trainer.train(seed=1, stop_after_epochs=1)
    with pytest.raises(ValueError, match=r"embedding_net_x=\.\.\."):
        save_and_load(trainer, tmp_path)
    loaded = AALR.load(tmp_path, embedding_net_x=build(), **QUIET)
    assert are_equal(trainer, loaded)


def test_density_of_sbis_is_given_again(tmp_path):
    theta, _, x = draw_pairs(300, 1)
    npe = NPE(PRIOR, show_progress_bars=False, density_estimator="mdn")
    base = npe.append_simulations(theta, x).train(stop_after_epochs=1)
    trainer = append(AALR(PRIOR, base=base, **QUIET), 200)
    trainer.train(seed=1, stop_after_epochs=1)
    with pytest.raises(ValueError, match=r"base=\.\.\."):
        save_and_load(trainer, tmp_path)
    assert are_equal(trainer, AALR.load(tmp_path, base=base, **QUIET))
    with pytest.raises(TypeError, match="`base` must be the estimator or posterior"):
        AALR.load(tmp_path, base="auto", **QUIET)


def test_every_damaged_byte_is_found(stacked, tmp_path):
    stacked.save(tmp_path)
    generator = torch.Generator().manual_seed(1)
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        for place in torch.randint(len(content), (6,), generator=generator).tolist():
            damaged = bytearray(content)
            damaged[place] ^= 1 << (place % 8)
            path.write_bytes(damaged)
            with pytest.raises(ValueError, match=r"damaged|format"):
                AALR.load(tmp_path)
        path.write_bytes(content)
    assert are_equal(stacked, AALR.load(tmp_path, **QUIET))


def test_document_that_asks_for_what_is_not_there_is_refused(stacked, tmp_path):
    stacked.save(tmp_path)
    path = tmp_path / "trainer.json"
    document = json.loads(path.read_text())
    for name, value in (("summary", 3), ("structures", "all"), ("unknown", 1)):
        path.write_text(json.dumps({**document, name: value}))
        with pytest.raises(ValueError, match="is damaged"):
            AALR.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="must hold a saved trainer"):
        AALR.load(tmp_path / "elsewhere")


def test_save_replaces_a_saved_trainer_and_nothing_else(stacked, tmp_path):
    make_trainer("selu_mlp").save(tmp_path)
    stacked.save(tmp_path)
    stacked.save(tmp_path)
    assert are_equal(stacked, AALR.load(tmp_path, **QUIET))
    assert len(list(tmp_path.iterdir())) == 3
    other = tmp_path / "other"
    other.mkdir()
    (other / "trainer.json").write_text("{}")
    with pytest.raises(ValueError, match="`folder` must be a folder where nothing"):
        stacked.save(other)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError, match="`folder` must be a folder"):
        stacked.save(tmp_path / "file")
