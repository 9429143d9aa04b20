"""Hyperparameters of ratio estimators by their names, and their hypergradients."""

import pytest
import torch
from small_towers import build_towers

from sbi_aalr.networks import residual
from sbi_aalr.simulation.batches import Batch
from sbi_aalr.training import RatioLoss
from sbi_aalr.tuning import (
    Augmentation,
    ColumnNoise,
    DropoutRates,
    OctaveGains,
    RatioHyperparameters,
    TermWeights,
    WeightPenalty,
    hypergradient,
)
from sbi_aalr.tuning.ratio import TUNABLE, check_names

# By their names.


@pytest.mark.parametrize("name", TUNABLE)
def test_every_name_enters_the_training_loss_and_leaves_the_estimator(name):
    estimator, theta, x = build_towers()
    torch.manual_seed(3)
    knobs = RatioHyperparameters([name], estimator, theta, x)
    knobs.attach(estimator)
    loss = RatioLoss()

    def compute_loss():
        torch.manual_seed(4)
        moved_theta, moved_x = knobs.perturb(theta, x)
        batch = Batch(moved_theta, None, moved_x)
        return loss.of_batch(estimator, batch).mean() + knobs.penalise(estimator)

    gradients = torch.autograd.grad(compute_loss(), [*knobs.parameters()])
    # Not of all, as a bias that is zero has no penalty.
    assert any(gradient.abs().max() > 0 for gradient in gradients)
    [(least, median, greatest)] = knobs.summarise().values()
    assert least <= median <= greatest
    with torch.no_grad():
        for knob in knobs.parameters():
            knob.add_(0.1)
    knobs.eval()
    estimator.eval()
    tuned = estimator(theta, x)
    knobs.finish(estimator, theta[:4], x[:4])
    assert torch.allclose(estimator(theta, x), tuned, atol=1e-4)
    assert not any(module._forward_hooks for module in estimator.modules())
    assert torch.equal(knobs.perturb(theta, x)[1], x)


def test_several_names_work_together():
    estimator, theta, x = build_towers()
    knobs = RatioHyperparameters(TUNABLE, estimator, theta, x)
    assert knobs.summarise().keys() == set(TUNABLE)
    each, layer = (knobs.parts[n] for n in ("each_weight_decay", "weight_decay"))
    together = (each(estimator) + layer(estimator)).item()
    assert knobs.penalise(estimator).item() == pytest.approx(together)


def test_names_start_where_they_are_told():
    estimator, theta, x = build_towers()
    names = ["weight_decay", "octaves", "dropout", "x_noise"]
    found = RatioHyperparameters(names, estimator, theta, x).summarise()
    starts = {"weight_decay": 0.01, "octaves": 1.0, "dropout": 0.1, "x_noise": 0.03}
    for name, start in starts.items():
        assert found[name] == pytest.approx((start,) * 3)


@pytest.mark.parametrize(
    ("names", "error", "found"),
    [
        ("learning_rate", ValueError, "no place in the training loss"),
        (["octaves", "num_blocks"], ValueError, "cannot have 'num_blocks'"),
        (["wings"], ValueError, "`tune` must be of 'weight_decay', .* got 'wings'"),
        ([], ValueError, "at least one name and none twice"),
        (["octaves", "octaves"], ValueError, "none twice"),
        (3, TypeError, "`tune` must be names of what to tune, got 3"),
        ([None], TypeError, "`tune` must be names of what to tune, got None"),
    ],
)
def test_wrong_names_are_refused_with_the_reason(names, error, found):
    with pytest.raises(error, match=found):
        check_names(names)


# All of them, in the loss of a ratio estimator.


def differentiate_towers(build_knobs, make_loss, monkeypatch):
    estimator, theta, x = build_towers()
    knobs = build_knobs(estimator, theta, x)
    for module in (estimator, knobs):
        module.double()
    theta, x = theta.double(), x.double()
    # In bfloat16 and float32 there are no differences to take.
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    monkeypatch.setattr(residual, "has_quick_bfloat16", lambda kind: False)
    loss, weights = RatioLoss(), [*estimator.parameters()]

    def training_loss(*_):
        torch.manual_seed(4)
        estimator.train()
        return make_loss(loss, estimator, knobs, theta[:48], x[:48])

    def validation_loss(*_):
        estimator.eval()
        return loss.of_batch(estimator, Batch(theta[48:], None, x[48:])).mean()

    def evaluate_mixed(vector):
        """The gradient of the training loss in the weights, times a vector."""
        gradients = torch.autograd.grad(training_loss(), weights)
        return sum((g * v).sum() for g, v in zip(gradients, vector, strict=True))

    found = hypergradient(
        validation_loss, training_loss, weights, knobs.parameters(), inverse="identity"
    )
    return found, [*knobs.parameters()], evaluate_mixed, validation_loss, weights


def plain(loss, estimator, knobs, theta, x):
    return loss.of_batch(estimator, Batch(theta, None, x)).mean()


def moved(loss, estimator, knobs, theta, x):
    return loss.of_batch(estimator, Batch(theta, None, knobs(x))).mean()


def penalised(loss, estimator, knobs, theta, x):
    return plain(loss, estimator, knobs, theta, x) + knobs(estimator)


def weighted(loss, estimator, knobs, theta, x):
    batch = Batch(theta, None, x)
    terms = {
        "cross_entropy": RatioLoss(info_nce=0).of_batch(estimator, batch).mean(),
        "info_nce": RatioLoss(cross_entropy=0).of_batch(estimator, batch).mean(),
    }
    return knobs(terms)


def attached(kind):
    def build(estimator, theta, x):
        knobs = kind(estimator)
        knobs.attach(estimator)
        return knobs

    return build


@pytest.mark.parametrize(
    ("build_knobs", "make_loss"),
    [
        (lambda e, t, x: WeightPenalty(e, "weight"), penalised),
        (lambda e, t, x: WeightPenalty(e, "layer"), penalised),
        (lambda e, t, x: ColumnNoise(x, 0.3), moved),
        (lambda e, t, x: Augmentation(x, 8, 4), moved),
        (lambda e, t, x: TermWeights({"cross_entropy": 1, "info_nce": 1}), weighted),
        (attached(DropoutRates), plain),
        (attached(OctaveGains), plain),
    ],
    ids=["weight", "layer", "noise", "augmentation", "terms", "dropout", "octaves"],
)
def test_hypergradient_of_a_ratio_estimator_agrees_with_differences(
    build_knobs, make_loss, monkeypatch
):
    found, knobs, evaluate_mixed, validation_loss, weights = differentiate_towers(
        build_knobs, make_loss, monkeypatch
    )
    v = torch.autograd.grad(validation_loss(), weights)
    # Along a random direction of all hyperparameters at once.
    generator = torch.Generator().manual_seed(6)
    direction = [
        torch.randn(k.shape, generator=generator, dtype=torch.float64) for k in knobs
    ]
    step = 1e-5

    def evaluate(sign):
        with torch.no_grad():
            for knob, part in zip(knobs, direction, strict=True):
                knob.add_(sign * step * part)
        # T1 - T2: the direct part less the mixed derivatives times v.
        value = validation_loss().detach() - evaluate_mixed(v).detach()
        with torch.no_grad():
            for knob, part in zip(knobs, direction, strict=True):
                knob.sub_(sign * step * part)
        return float(value)

    slope = (evaluate(1) - evaluate(-1)) / (2 * step)
    inner = sum(
        float((g * part).sum()) for g, part in zip(found, direction, strict=True)
    )
    assert abs(slope) > 1e-8
    assert inner == pytest.approx(slope, rel=1e-5)
