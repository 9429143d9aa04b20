"""What the page says of the training loss, and how it draws it."""

import numpy as np
import pytest

from sbi_aalr.report.training_figure import (
    describe_training,
    find_kept,
    plot_training,
)


@pytest.mark.parametrize(
    ("training", "said", "kept"),
    [
        (
            {"training_loss": [0.7, 0.5, 0.3], "validation_loss": [0.7, 0.5, 0.9]},
            "learns its simulations by heart",
            2,
        ),
        (
            {"training_loss": [0.7, 0.5, 0.3], "validation_loss": [0.7, 0.5, 0.4]},
            "still falls at the end",
            3,
        ),
        (
            {"training_loss": [0.7] * 9, "validation_loss": [0.7, 0.401, 0.4, 0.401]},
            "is level",
            3,
        ),
        ({"training_loss": list(np.linspace(0.9, 0.4, 100))}, "still falls", None),
        ({"training_loss": [0.5] * 100}, "is level at the end", None),
        ({"training_loss": [0.5, 0.4, 0.3]}, "3 losses are too few to tell", None),
    ],
)
def test_words_about_the_loss_follow_its_curve(training, said, kept):
    words = describe_training(training)
    assert said in words
    assert ("still falls" in words) == (said.startswith("still"))
    assert find_kept(training) == kept


def test_epochs_and_steps_share_an_axis():
    losses = {
        "training_loss": list(np.geomspace(0.7, 0.4, 500)),
        "validation_loss": [0.6, 0.45],
    }
    axes = plot_training(losses).axes[0]
    training, validation = (line.get_xdata() for line in axes.lines)
    assert training[-1] == 500 and list(validation) == [250, 500]
