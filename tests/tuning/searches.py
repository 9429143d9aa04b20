"""A search for the penalties of a ridge regression."""

import torch
from fitted_regressions import Ridge
from torch import nn

from sbi_aalr.tuning import Search


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
