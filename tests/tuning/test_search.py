"""The search for hyperparameters: what it finds, how it goes on, what it refuses."""

import math

import pytest
import torch
from fitted_regressions import Ridge
from torch import nn

from sbi_aalr.networks import residual
from sbi_aalr.tuning import Search, WeightPenalty
from sbi_aalr.tuning import search as search_module


class Line(nn.Module):
    def __init__(self, num_weights=4, dropout=0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_weights, dtype=torch.float64))
        self.dropout = nn.Dropout(dropout)

    def forward(self, rows):
        return self.dropout(rows) @ self.weight


def interior():
    """A problem whose best penalties are neither nothing nor without bound."""
    return Ridge(seed=7)


def build(problem=None, *, dropout=0.0, knob_rate=0.1, optimizer=None, **settings):
    """A search for the penalties of a ridge regression."""
    problem = problem or interior()
    model = Line(len(problem.log_penalties), dropout)
    knobs = nn.ParameterList([problem.log_penalties.clone()])

    def training_loss():
        errors = model(problem.inputs) - problem.targets
        return errors.square().mean() / 2 + (knobs[0].exp() * model.weight**2).sum() / 2

    def validation_loss():
        errors = model(problem.held_out) - problem.held_out_targets
        return errors.square().mean() / 2

    settings = {"inner_steps": 5, **settings}
    optimizer = optimizer or torch.optim.Adam
    return Search(
        model,
        knobs,
        settings.pop("training_loss", training_loss),
        settings.pop("validation_loss", validation_loss),
        optimizer=torch.optim.SGD(model.parameters(), 0.3),
        hyperparameter_optimizer=optimizer(knobs.parameters(), knob_rate),
        **settings,
    )


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


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD])
def test_saved_search_goes_on_as_if_nothing_had_happened(tmp_path, optimizer):
    def start():
        return build(dropout=0.3, optimizer=optimizer, spectrum_every=3)

    whole = start()
    whole.run(8)
    first = start()
    first.run(4)
    first.save(tmp_path / "search.safetensors")
    second = start()
    second.load(tmp_path / "search.safetensors")
    assert second.history == first.history
    second.run(4)
    for one, other in zip(whole.history, second.history, strict=True):
        assert one[:-1] == other[:-1]  # all but the seconds
    assert torch.equal(whole._model.weight, second._model.weight)


def test_saved_search_holds_no_code(tmp_path):
    search = build()
    search.run(1)
    search.save(tmp_path / "search.safetensors")
    content = (tmp_path / "search.safetensors").read_bytes()
    assert b"pickle" not in content and b"torch" not in content


def test_damaged_or_foreign_file_is_refused(tmp_path):
    path = tmp_path / "search.safetensors"
    search = build()
    search.run(1)
    search.save(path)
    other = build(Ridge(num_weights=3))
    with pytest.raises(ValueError, match="built like this one, but its `model`"):
        other.load(path)
    assert other.history == [] and len(other._model.weight) == 3
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        search.load(path)


def test_time_limit_ends_a_search():
    assert len(build().run(10_000, time_limit=0.3)) < 9_000


# The scale.


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


# What is refused.


@pytest.mark.parametrize(
    ("settings", "error", "found"),
    [
        ({"inner_steps": 0}, ValueError, "`inner_steps` must be a positive int"),
        ({"inverse": "guess"}, ValueError, "`inverse` must be one of"),
        ({"num_terms": 1.5}, TypeError, "`num_terms` must be"),
        ({"damping": -1}, ValueError, "`damping` must be"),
        ({"spectrum_every": 0}, ValueError, "`spectrum_every` must be"),
        ({"clip_max_norm": 0}, ValueError, "`clip_max_norm` must be"),
        ({"clip_hypergradient": "1"}, TypeError, "`clip_hypergradient` must be"),
        ({"seed": -1}, ValueError, "`seed` must be"),
    ],
)
def test_bad_setting_is_named(settings, error, found):
    with pytest.raises(error, match=found):
        build(**settings)


def test_modules_and_optimizers_are_checked():
    model, knobs = Line(), nn.ParameterList([torch.zeros(1)])
    losses = (lambda: None), (lambda: None)

    def start(model=model, knobs=knobs, weights_of=model, knobs_of=knobs):
        rates = torch.optim.SGD(weights_of.parameters(), 0.1)
        return Search(
            model,
            knobs,
            *losses,
            optimizer=rates,
            hyperparameter_optimizer=torch.optim.SGD(knobs_of.parameters(), 0.1),
        )

    start()
    with pytest.raises(TypeError, match="`model` must be a torch module, got str"):
        start(model="net")
    with pytest.raises(TypeError, match="`hyperparameters` must be a torch module"):
        start(knobs=[torch.zeros(1)])
    with pytest.raises(ValueError, match="`hyperparameters` must not be weights"):
        start(knobs=model)
    with pytest.raises(ValueError, match="`hyperparameters` must have a parameter"):
        start(knobs=nn.Dropout())
    with pytest.raises(ValueError, match="`optimizer` must step each"):
        start(weights_of=Line())
    with pytest.raises(ValueError, match="`hyperparameter_optimizer` must step each"):
        start(knobs_of=Line())
    with pytest.raises(TypeError, match="`optimizer` must be a torch optimizer"):
        Search(model, knobs, *losses, optimizer=3, hyperparameter_optimizer=[])


def test_learning_rate_is_no_hyperparameter():
    model, knobs = nn.Linear(1, 1), nn.ParameterList([torch.tensor(0.1)])
    search = Search(
        model,
        knobs,
        lambda: model.weight.square().sum() + model.bias.square().sum(),
        lambda: (model.weight - 1).square().sum() + model.bias.sum(),
        optimizer=torch.optim.SGD(model.parameters(), 0.1),
        hyperparameter_optimizer=torch.optim.SGD(knobs.parameters(), 0.1),
    )
    with pytest.raises(ValueError, match="learning rate"):
        search.run(1)


def test_loss_that_becomes_nan_is_an_error():
    problem = Ridge()
    search = build(problem)
    search.run(1)
    problem.targets[0] = math.nan
    with pytest.raises(ValueError, match="`training_loss` must be finite, got nan"):
        search.run(1)
    assert len(search.history) == 1


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
