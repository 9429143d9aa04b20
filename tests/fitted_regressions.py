"""Regressions whose hypergradients are known, in closed form or by refitting."""

import math

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from sbi_aalr.tuning import hypergradient


class Ridge:
    """Ridge regression with a penalty a weight; the hyperparameters are their logs."""

    def __init__(self, num_weights=4, num_rows=40, seed=1):
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        truth = draw(num_weights)
        self.inputs, self.held_out = draw(num_rows, num_weights), draw(30, num_weights)
        self.targets = self.inputs @ truth + draw(num_rows)
        self.held_out_targets = self.held_out @ truth + draw(30)
        self.log_penalties = 0.5 * draw(num_weights) - 1

    def training_loss(self, weights, hyperparameters):
        (w,), (log_penalties,) = weights, hyperparameters
        errors = self.inputs @ w - self.targets
        return errors.square().mean() / 2 + (log_penalties.exp() * w**2).sum() / 2

    def validation_loss(self, weights, hyperparameters):
        (w,) = weights
        return (self.held_out @ w - self.held_out_targets).square().mean() / 2

    @property
    def hessian(self):
        gram = self.inputs.T @ self.inputs / len(self.inputs)
        return gram + self.log_penalties.exp().diag()

    def fit(self):
        moment = self.inputs.T @ self.targets / len(self.inputs)
        return torch.linalg.solve(self.hessian, moment)

    def differentiate_held_out(self, w):
        errors = self.held_out @ w - self.held_out_targets
        return self.held_out.T @ errors / len(errors)

    def solve(self, inverse=None):
        """The hypergradient, with any matrix in the place of the inverse Hessian."""
        w = self.fit()
        inverse = self.hessian.inverse() if inverse is None else inverse
        return (
            -(self.differentiate_held_out(w) @ inverse) * self.log_penalties.exp() * w
        )


class Logistic(Ridge):
    """The same with labels; the held-out loss depends on a hyperparameter, too."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.targets = (self.targets > 0).double()
        self.held_out_targets = (self.held_out_targets > 0).double()
        self.temperature = torch.tensor(0.3, dtype=torch.float64)

    def training_loss(self, weights, hyperparameters):
        (w,), (log_penalties, _) = weights, hyperparameters
        loss = binary_cross_entropy_with_logits(self.inputs @ w, self.targets)
        return loss + (log_penalties.exp() * w**2).sum() / 2

    def validation_loss(self, weights, hyperparameters):
        logits = self.held_out @ weights[0] * hyperparameters[1].exp()
        return binary_cross_entropy_with_logits(logits, self.held_out_targets)

    def fit(self, log_penalties=None):
        """Minimise the training loss by Newton's steps."""
        given = self.log_penalties if log_penalties is None else log_penalties
        w = torch.zeros(len(given), dtype=torch.float64)
        for _ in range(20):
            share = (self.inputs @ w).sigmoid()
            gradient = self.inputs.T @ (share - self.targets) / len(self.targets)
            curvature = self.inputs.T * (share * (1 - share)) @ self.inputs
            hessian = curvature / len(self.targets) + given.exp().diag()
            w = w - torch.linalg.solve(hessian, gradient + given.exp() * w)
        return w

    def differentiate_by_refitting(self, step=1e-5):
        """The hypergradient by central differences."""

        def evaluate(log_penalties, temperature):
            w = self.fit(log_penalties)
            return float(self.validation_loss((w,), (log_penalties, temperature)))

        def difference(change, temperature):
            up = evaluate(self.log_penalties + change, self.temperature + temperature)
            down = evaluate(self.log_penalties - change, self.temperature - temperature)
            return (up - down) / (2 * step)

        units = torch.eye(len(self.log_penalties), dtype=torch.float64) * step
        slopes = [difference(unit, 0.0) for unit in units]
        still = torch.zeros_like(self.log_penalties)
        return torch.tensor(slopes, dtype=torch.float64), difference(still, step)


def relative_error(found, truth):
    difference = torch.as_tensor(found) - torch.as_tensor(truth)
    return float(difference.norm() / torch.as_tensor(truth).norm())


def count_terms(condition_number, error):
    """Terms after which a series with the best safe scale has at most some error."""
    return math.ceil(math.log(error) / math.log(1 - 1 / condition_number))


RIDGE = Ridge()


def differentiate_ridge(problem=RIDGE, **settings):
    losses = problem.validation_loss, problem.training_loss
    [found] = hypergradient(
        *losses, [problem.fit()], [problem.log_penalties], **settings
    )
    return found


def parabola(*curvatures):
    """Losses in two weights at their optimum, curved as given; a penalty is tuned."""
    h = torch.tensor(curvatures, dtype=torch.float64)

    def training_loss(weights, hyperparameters):
        return (h * weights[0] ** 2 + hyperparameters[0] * weights[0]).sum()

    def validation_loss(weights, hyperparameters):
        return (weights[0] * torch.tensor([1.0, 2.0])).sum()

    zeros = torch.zeros(2, dtype=torch.float64)
    return validation_loss, training_loss, [zeros], [zeros.clone()]
