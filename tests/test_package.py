"""The surface of the package: its names, and what importing it costs."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import sbi_aalr

PACKAGE = Path(sbi_aalr.__file__).parent
HEAVY = {"sbi", "torch", "matplotlib", "arviz_base", "arviz_stats", "arviz_plots"}


def list_loaded(statement: str) -> set[str]:
    """Run a statement in a fresh interpreter and tell which heavy packages it loads."""
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return HEAVY & set(result.stdout.split())


def test_public_surface_is_exactly_what_we_promise():
    assert sbi_aalr.__all__ == [
        "AALR",
        "ConvergenceWarning",
        "MHPosterior",
        "MHPosteriorParameters",
        "Normaliser",
        "RatioLoss",
        "TruncatedPrior",
        "__version__",
        "average_log_ratios",
    ]
    assert dir(sbi_aalr) == sorted(sbi_aalr.__all__)


@pytest.mark.parametrize("name", sorted(set(sbi_aalr.__all__) - {"__version__"}))
def test_public_name_resolves(name):
    assert getattr(sbi_aalr, name).__name__ == name


def test_unknown_name_raises_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'NRE'"):
        _ = sbi_aalr.NRE


def test_version_matches_metadata():
    assert metadata.version("sbi-aalr") == sbi_aalr.__version__


def test_package_ships_its_types():
    assert (PACKAGE / "py.typed").is_file()


def test_import_loads_nothing_heavy():
    assert list_loaded("import sbi_aalr") == set()


def test_import_check_notices_heavy_parts():
    assert list_loaded("import sbi_aalr, torch") >= {"torch"}
