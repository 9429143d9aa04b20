"""Files of a stack that do not fit: said to be damaged, and never built."""

import pytest
from stacks import make, save

from sbi_aalr import MHPosterior
from sbi_aalr.files import read_sealed, write_sealed

SETTINGS = "posterior.json"


def spoil(folder, change):
    """Write the settings anew with something changed, the hash renewed."""
    document = read_sealed(folder / SETTINGS)
    change(document)
    write_sealed(folder / SETTINGS, document)


def set_setting(name, value):
    return lambda document: document["classifier_settings"].__setitem__(name, value)


@pytest.mark.parametrize(
    "change",
    [
        set_setting("num_used", 0),
        set_setting("num_used", 9),
        set_setting("num_used", -1),
        set_setting("proposal", 7),
        set_setting("proposal", -2),
        set_setting("proposal", 1),
        set_setting("proposal", 0.5),
        set_setting("num_used", "1"),
        set_setting("has_offset", 0),
        lambda document: document["classifier_settings"].clear(),
        lambda document: document.__setitem__("classifier_settings", None),
        lambda document: document.__setitem__("members", []),
        lambda document: document["members"].pop(),
        lambda document: document["members"].reverse(),
        lambda document: document["members"][0].__setitem__("classifier", "two_towers"),
        lambda document: document["members"][0]["classifier_settings"].clear(),
    ],
)
def test_what_does_not_fit_is_damage(change, tmp_path):
    save(tmp_path, make("posterior", "towers", proposal=0))
    spoil(tmp_path, change)
    with pytest.raises(ValueError, match=r"damaged|do not fit"):
        MHPosterior.load(tmp_path)


def test_network_larger_than_its_weights_is_not_built(tmp_path):
    save(tmp_path, make("posterior", proposal=0))

    def change(document):
        document["members"][0]["classifier_settings"]["num_components"] = 10**9

    spoil(tmp_path, change)
    with pytest.raises(ValueError, match=r"damaged|do not fit"):
        MHPosterior.load(tmp_path)
