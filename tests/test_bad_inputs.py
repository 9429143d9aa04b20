"""Whatever is wrong with an argument, the message names it and says what was given."""

import re
import warnings

import pytest
from bad_inputs import Ready, pairs
from bad_inputs_of_comparison import list_comparison, list_simulators
from bad_inputs_of_diagnostics import list_diagnostics
from bad_inputs_of_networks import list_networks
from bad_inputs_of_posteriors import list_posteriors
from bad_inputs_of_trainers import list_trainers
from bad_inputs_of_tuning import list_tuning
from linear_gaussian import SHORT, X_O

from sbi_aalr import AALR

CASES = [
    *list_trainers(),
    *list_tuning(),
    *list_posteriors(),
    *list_diagnostics(),
    *list_networks(),
    *list_simulators(),
    *list_comparison(),
]


@pytest.fixture(scope="module")
def ready(fitted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    trainer = AALR(fitted._prior, "linear", show_progress_bars=False)
    trainer.append_simulations(*pairs())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.train(max_num_epochs=1, seed=1)
    posterior = trainer.build_posterior()
    posterior.save(folder)
    posterior.sample((20,), x=X_O, seed=1, **SHORT)
    estimator = posterior.potential_fn.ratio_estimator
    return Ready(trainer, posterior, estimator, folder)


def test_there_are_many_cases_and_no_two_of_one_name():
    names = [case.name for case in CASES]
    assert len(names) == len(set(names)) >= 300


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_message_names_the_argument(ready, case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, TypeError, OSError)) as caught:
        case.call(ready)
    message = str(caught.value)
    assert f"`{case.argument}`" in message or f"'{case.argument}'" in message
    assert re.search(r"got|must|needs", message)
    # Whatever torch, sbi or Python say themselves is not for users.
    assert "__init__()" not in message and "unexpected keyword" not in message
