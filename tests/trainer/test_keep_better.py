"""Which of the structures that were tried are offered to the stack."""

from linear_gaussian import draw_pairs

from sbi_aalr.networks import likelihood_mixture
from sbi_aalr.trainer.stacking import Structure, keep_better
from sbi_aalr.training.history import History
from sbi_aalr.training.members import Member, choose_density_recipe

RECIPE = choose_density_recipe(1_000)
GATED = Member("likelihood_mixture", {"num_components": 1}, RECIPE)
PLAIN = Member(
    "likelihood_mixture", {"num_components": 1, "fixed_correlations": 1}, RECIPE
)
MANY = Member("likelihood_mixture", {"num_components": 4}, RECIPE)
CLOSED = Member("likelihood_mixture", {"num_components": 1}, None)


def make_history(*validation_losses, losses=(1.0,)):
    return History([*losses], [], [], [*validation_losses], [], 1.0, True)


def make_structures(*members):
    theta, _, x = draw_pairs(50, seed=1)
    return [Structure(one, likelihood_mixture(1, 0)(theta, x)) for one in members]


def keep(members, *histories):
    structures = make_structures(*members)
    kept = keep_better(structures, list(histories))
    places = {one.estimator: place for place, one in enumerate(structures)}
    return [places[one.estimator] for one in kept]


def test_better_of_two_networks_is_kept_in_either_order():
    closed, many, tower = None, make_history(9.0), make_history(8.0)
    good, bad = make_history(3.0, 1.0, 4.0), make_history(2.0, 2.0)
    members = [CLOSED, GATED, PLAIN, MANY, None]
    assert keep(members, closed, good, bad, many, tower) == [0, 1, 3, 4]
    assert keep(members, closed, bad, good, many, tower) == [0, 2, 3, 4]
    three = [GATED, PLAIN, GATED]
    assert keep(three, bad, make_history(1.5), good) == [2]


def test_without_rows_held_out_nothing_is_better():
    assert keep([GATED, PLAIN], make_history(), make_history(1.0)) == [0, 1]


def test_what_took_no_step_was_not_fitted():
    nothing = make_history(losses=())
    assert keep([CLOSED, GATED, None], None, nothing, None) == [0]


def test_what_was_built_from_other_rows_is_not_compared():
    inside, every = make_structures(GATED, PLAIN)
    every = every._replace(sees_all=True)
    histories = [make_history(1.0), make_history(2.0)]
    assert keep_better([inside, every], histories) == [inside, every]
    alike = every._replace(sees_all=False)
    assert keep_better([inside, alike], histories) == [inside]
