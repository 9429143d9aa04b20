"""What the recipe decides, and where the user decides instead."""

import pytest

from sbi_aalr.training.recipe import TrainingSettings, choose_recipe, find_entry

MILLION = 10**6


def choose(num_simulations=MILLION, settings=None, **options):
    options = {"is_separable": True, "is_streamed": True, **options}
    row = find_entry(num_simulations)
    return choose_recipe(row, num_simulations, settings, **options)


def test_recipe_grows_with_the_budget():
    budgets = [10**power for power in range(3, 8)]
    widths = [find_entry(budget).towers["hidden_features"] for budget in budgets]
    assert widths == sorted(widths)
    for is_streamed in (True, False):
        passes = [choose(n, is_streamed=is_streamed).num_passes for n in budgets]
        assert passes == sorted(passes, reverse=True) and passes[-1] >= 1


def test_short_time_gets_a_smaller_network():
    usual, hurried = find_entry(MILLION), find_entry(MILLION, 15.0)
    assert hurried.towers["hidden_features"] < usual.towers["hidden_features"]
    assert find_entry(MILLION, 300.0) == usual
    assert find_entry(1_000, 15.0) == find_entry(1_000)


def test_streams_are_passed_over_less_often_than_stored_simulations():
    assert choose(1_000).num_passes < choose(1_000, is_streamed=False).num_passes


def test_what_takes_theta_and_x_together_is_trained_as_the_paper_and_sbi_do():
    streamed = choose(is_separable=False)
    stored = choose(is_separable=False, is_streamed=False)
    assert (streamed.batch_size, streamed.num_passes) == (256, 1)
    assert (stored.batch_size, stored.learning_rate) == (200, 5e-4)
    assert stored.num_passes is None


def test_settings_come_before_the_recipe():
    usual = choose()
    chosen = choose(settings=TrainingSettings(32, 0.5), num_passes=3)
    assert chosen == usual._replace(batch_size=32, learning_rate=0.5, num_passes=3)
    assert choose(settings=TrainingSettings()) == usual


def test_batches_are_no_larger_than_the_budget():
    assert choose(10).batch_size == 10
    assert choose(10, TrainingSettings(batch_size=20)).batch_size == 10


@pytest.mark.parametrize("num_simulations", [100, 10_000, 60_000, 600_000, 6_000_000])
@pytest.mark.parametrize("is_separable", [True, False])
@pytest.mark.parametrize("is_streamed", [True, False])
def test_time_limit_asks_for_no_more_passes(num_simulations, is_separable, is_streamed):
    kind = {"is_separable": is_separable, "is_streamed": is_streamed}
    found = []
    for time_limit in (None, 9.0, 900.0):
        settings = TrainingSettings(time_limit=time_limit)
        entry = find_entry(num_simulations, time_limit)
        recipe = choose_recipe(entry, num_simulations, settings, **kind)
        found.append(recipe.num_passes)
    assert found == [found[0]] * 3


@pytest.mark.parametrize(
    ("time_limit", "most_passes", "expected"),
    [(None, 3, 3), (None, 999, 60), (None, None, 60), (9.0, 3, 3), (9.0, None, 60)],
)
def test_passes_end_at_the_most_that_are_wanted(time_limit, most_passes, expected):
    settings = TrainingSettings(time_limit=time_limit)
    recipe = choose(1_000, settings, is_streamed=False, most_passes=most_passes)
    assert recipe.num_passes == expected


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "`batch_size` must be a positive int, got 0"),
        ({"batch_size": 2.5}, TypeError, "`batch_size` must be .*got 2.5"),
        ({"learning_rate": -1.0}, ValueError, r"`learning_rate` must .*got -1\.0"),
        ({"clip_max_norm": 0}, ValueError, "`clip_max_norm` must .*got 0"),
        ({"time_limit": "1"}, TypeError, "`time_limit` must be a number, got '1'"),
    ],
)
def test_wrong_settings_are_named(settings, error, message):
    with pytest.raises(error, match=message):
        TrainingSettings(**settings)
