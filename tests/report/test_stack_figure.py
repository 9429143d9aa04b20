"""The losses of a stack: whose curve it is, and how much each member counts."""

import pytest
from linear_gaussian import PRIOR, draw_pairs

from sbi_aalr import AALR
from sbi_aalr.report.stack_figure import (
    describe_stack,
    has_curves,
    list_stacked,
    plot_stack,
    summarise_stack,
)

FALLING = [3.0, 2.0, 1.0]
RISING = [1.0, 0.5, 2.0]
CLOSED = {"structure": "likelihood_mixture", "weight": 0.0}
STRUCTURES = [
    {
        "structure": "posterior_mixture",
        "weight": 0.7,
        "training_loss": FALLING,
        "validation_loss": RISING,
        "num_weights": 3,
    },
    CLOSED,
    {**CLOSED, "weight": 0.25, "training_loss": FALLING, "validation_loss": FALLING},
]
SUMMARY = {
    "training_loss": FALLING,
    "validation_loss": FALLING,
    "recipe": [
        {"classifier": "stack", "structures": STRUCTURES, "has_correction": True}
    ],
}


def test_each_member_that_was_trained_has_a_panel_with_its_weight():
    figure = plot_stack(SUMMARY)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    titles = [axes.get_title(loc="left") for axes in panels]
    assert titles == [
        "Density of the parameters, weight 0.7",
        "Density of the data 2, weight 0.25",
    ]
    training, held_out, kept = panels[0].lines
    assert list(training.get_ydata()) == FALLING
    assert list(held_out.get_ydata()) == RISING and kept.get_xdata()[0] == 2


def test_words_are_about_the_member_that_counts_most():
    words = describe_stack(SUMMARY)
    assert "density of the parameters (0.7), density of the data 2 (0.25)" in words
    assert "with a correction; left out: density of the data 1." in words
    assert "Of the density of the parameters: The held-out loss rises after pass 2" in (
        words
    )


def test_what_is_kept_in_a_folder_tells_the_same():
    kept = {"training_loss": FALLING, "stack": summarise_stack(SUMMARY)}
    assert "num_weights" not in kept["stack"]["structures"][0]
    assert list_stacked(kept) == list_stacked(SUMMARY)
    assert describe_stack(kept) == describe_stack(SUMMARY)


@pytest.mark.parametrize(
    "training",
    [
        {"training_loss": FALLING, "validation_loss": FALLING},
        {"recipe": [{"classifier": "two_towers"}], "validation_loss": FALLING},
        {"recipe": [{**SUMMARY["recipe"][0], "structures": [CLOSED]}]},
        {},
    ],
)
def test_single_network_has_no_stack_to_show(training):
    assert not has_curves(training)


@pytest.mark.filterwarnings("ignore:Maximum number of epochs")
@pytest.mark.usefixtures("hasty_stack")
def test_trainer_tells_of_its_stack_under_the_default_recipe():
    theta, _, x = draw_pairs(300, seed=1)
    trainer = AALR(PRIOR, show_progress_bars=False).append_simulations(theta, x)
    trainer.train(seed=1, stop_after_epochs=1, max_num_epochs=2)
    members = list_stacked(trainer.summary)
    trained = [one for one in members if one.losses["validation_loss"]]
    assert len(trained) > 1 and has_curves(trainer.summary)
    assert sum(one.weight > 0 for one in members) >= 1
    line = str(trainer).splitlines()[-1]
    chief = max(trainer.summary["recipe"][-1]["structures"], key=lambda o: o["weight"])
    assert f"stack of {chief['structure']} {chief['weight']:.2g}" in line
    assert f"held-out loss {trainer.summary['recipe'][-1]['held_out_loss']:.4f}" in line
