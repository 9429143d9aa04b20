"""The search for hyperparameters: what it finds, how it goes on, what it refuses."""

import pytest
import torch
from fitted_regressions import Ridge
from searches import Line, build, interior
from torch import nn

from sbi_aalr.networks import residual
from sbi_aalr.tuning import Search, WeightPenalty
from sbi_aalr.tuning import search as search_module


def find_best(problem):
    """The least held-out loss of ridge regressions, by descent on its closed form."""
    logs = problem.log_penalties.clone().requires_grad_()
    optimizer = torch.optim.Adam([logs], 0.1)
    gram = problem.inputs.T @ problem.inputs / len(problem.inputs)
    moment = problem.inputs.T @ problem.targets / len(problem.inputs)
    for _ in range(150):
        optimizer.zero_grad()
        w = torch.linalg.solve(gram + logs.exp().diag(), moment)
        loss = problem.validation_loss((w,), None)
        loss.backward()
        optimizer.step()
    return float(loss.detach())


@pytest.mark.parametrize("inverse", ["neumann", "conjugate_gradient", "exact"])
def test_search_finds_the_best_penalties(inverse):
    problem = interior()
    best, first = find_best(problem), problem.validation_loss((problem.fit(),), None)
    history = build(problem, inverse=inverse).run(100)
    assert len(history) == 100
    gap = history[-1].validation_loss - best
    assert abs(gap) < 0.05 * (float(first) - best)
    assert history[-1].training_loss > 0 and history[-1].seconds > 0


def test_search_with_a_wrong_sign_does_not(monkeypatch):
    problem = interior()
    best, first = find_best(problem), problem.validation_loss((problem.fit(),), None)
    correct = search_module.differentiate

    def differentiate(*arguments):
        gradients, info = correct(*arguments)
        return tuple(-gradient for gradient in gradients), info

    monkeypatch.setattr(search_module, "differentiate", differentiate)
    history = build(problem).run(100)
    assert history[-1].validation_loss - best > float(first) - best


@pytest.mark.parametrize(
    "optimizer", [torch.optim.SGD, torch.optim.RMSprop, torch.optim.AdamW]
)
def test_any_optimizer_steps_the_hyperparameters(optimizer):
    history = build(optimizer=optimizer, knob_rate=0.02).run(30)
    assert history[-1].validation_loss < history[2].validation_loss


def test_several_optimizers_share_the_hyperparameters():
    model, knobs = nn.Linear(2, 1), nn.ParameterList([torch.zeros(1), torch.zeros(2)])
    before = [knob.detach().clone() for knob in knobs]
    rows = torch.randn(8, 2, generator=torch.Generator().manual_seed(1))
    search = Search(
        model,
        knobs,
        lambda: (
            (model(rows + knobs[1]) - 1).square().mean()
            + knobs[0].exp().sum() * model.weight.square().sum()
        ),
        lambda: (model(rows) - 0.5).square().mean(),
        optimizer=torch.optim.Adam(model.parameters(), 0.01),
        hyperparameter_optimizer=[
            torch.optim.SGD([knobs[0]], 0.1),
            torch.optim.Adam([knobs[1]], 0.01),
        ],
        inner_steps=2,
    )
    search.run(2)
    assert not any(torch.equal(a, b) for a, b in zip(before, knobs, strict=True))


# Noise and modes.


def test_held_out_loss_is_measured_in_eval_and_training_loss_in_train():
    modes = []
    model, knobs = Line(2), nn.ModuleDict({"noise": nn.Dropout()})
    knobs["level"] = nn.ParameterList([torch.zeros(())])

    def note(loss):
        def compute():
            modes.append((loss, model.training, knobs["noise"].training))
            return (model.weight - knobs["level"][0].exp()).square().mean()

        return compute

    Search(
        model,
        knobs,
        note("training"),
        note("held out"),
        optimizer=torch.optim.SGD(model.parameters(), 0.1),
        hyperparameter_optimizer=torch.optim.SGD(knobs.parameters(), 0.1),
    ).run(2)
    assert set(modes) == {("training", True, True), ("held out", False, False)}
    assert not model.training and not knobs.training


def test_forgotten_eval_is_noticed(monkeypatch):
    build(dropout=0.5).run(2)
    monkeypatch.setattr(Search, "_set_training", lambda self, _: self._model.train())
    with pytest.raises(ValueError, match=r"same number twice, got .* eval\(\)"):
        build(dropout=0.5).run(1)


def test_generators_of_others_are_left_alone():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    build(dropout=0.2).run(2)
    assert torch.equal(torch.get_rng_state(), state)


def test_seed_repeats_a_search():
    def run(seed):
        return build(dropout=0.3, seed=seed).run(4)[-1].validation_loss

    assert run(1) == run(1) != run(2)


# Going on.


def test_time_limit_ends_a_search():
    assert len(build().run(10_000, time_limit=0.3)) < 9_000


# The scale.


@pytest.mark.parametrize("switch_off", [torch.no_grad, torch.inference_mode])
def test_search_works_where_gradients_are_switched_off(switch_off):
    search, same = build(), build()
    with switch_off():
        history = search.run(3)
    assert [s.validation_loss for s in history] == [
        s.validation_loss for s in same.run(3)
    ]


def test_seeds_next_to_each_other_have_nothing_in_common():
    def collect(seed):
        drawn = set()

        def training_loss():
            drawn.add(float(torch.rand(())))
            return search._model.weight.square().sum()

        search = build(seed=seed, training_loss=training_loss)
        with pytest.raises(ValueError, match="do neither"):
            search.run(1)
        return drawn

    drawn = collect(0), collect(1)
    assert len(drawn[0]) > 4 and not drawn[0] & drawn[1]


def test_spectrum_is_measured_now_and_then(monkeypatch):
    scales = []
    correct = search_module.differentiate

    def differentiate(*arguments):
        scales.append(arguments[-1].scale)
        return correct(*arguments)

    monkeypatch.setattr(search_module, "differentiate", differentiate)
    search = build(spectrum_every=3)
    history = search.run(6)
    assert [scale is None for scale in scales] == [True, False, False] * 2
    assert scales[1] == pytest.approx(0.8 / history[0].largest_eigenvalue)


def test_scale_that_has_become_too_large_is_measured_again():
    search = build()
    search.run(2)
    true = search._eigenvalue
    search._eigenvalue = true / 10
    search.run(1)
    assert search.history[-1].largest_eigenvalue == pytest.approx(true, rel=0.05)


def test_indefinite_hessian_is_in_the_history_and_does_not_warn():
    problem = Ridge()
    search = build(problem)
    losses = search._losses

    def training_loss():
        return losses[0]() - 2 * search._model.weight[0] ** 2

    search._losses = training_loss, losses[1]
    search.run(2)
    assert search.history[0].least_curvature < -1


def test_hessian_is_multiplied_in_float32(monkeypatch):
    monkeypatch.setattr(residual, "has_quick_bfloat16", lambda kind: True)
    kinds = []
    block = residual.GatedBlock(4)
    knobs = nn.ParameterList([torch.zeros(())])
    rows = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
    block.dropout.register_forward_hook(
        lambda layer, inputs, _: kinds.append(inputs[0].dtype)
    )

    def compute_loss():
        return ((block(rows) - knobs[0].exp()) ** 2).mean()

    Search(
        block,
        knobs,
        compute_loss,
        compute_loss,
        optimizer=torch.optim.SGD(block.parameters(), 0.01),
        hyperparameter_optimizer=torch.optim.SGD(knobs.parameters(), 0.01),
        inner_steps=2,
    ).run(1)
    # Held out twice, two steps in bfloat16, both losses of the hypergradient, again.
    exact, quick = torch.float32, torch.bfloat16
    assert kinds == [exact] * 2 + [quick] * 2 + [exact] * 4
    assert block.may_be_quick


def test_weight_penalties_beat_a_single_one_where_one_weight_matters():
    torch.manual_seed(1)
    rows, held_out = torch.randn(20, 15), torch.randn(100, 15)
    targets, held_out_targets = (
        part[:, :1] + 0.5 * torch.randn(len(part), 1) for part in (rows, held_out)
    )
    losses = {}
    for per in ("weight", "model"):
        torch.manual_seed(2)
        model = nn.Linear(15, 1)
        penalty = WeightPenalty(model, per, start=0.1)
        search = Search(
            model,
            penalty,
            lambda m=model, p=penalty: (m(rows) - targets).square().mean() + p(m),
            lambda m=model: (m(held_out) - held_out_targets).square().mean(),
            optimizer=torch.optim.Adam(model.parameters(), 0.03),
            hyperparameter_optimizer=torch.optim.Adam(penalty.parameters(), 0.3),
            inner_steps=10,
        )
        losses[per] = search.run(60)[-1].validation_loss
    assert losses["weight"] < 0.9 * losses["model"]
