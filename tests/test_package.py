"""The shape of the package itself: its surface, its floors and its house rules."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

import sbi_aalr

PACKAGE = Path(sbi_aalr.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# Each floor's rooms, each room's modules. An import goes down, or stays in its room.
FLOORS = [
    [{"_version"}, {"types"}, {"errors"}, {"checks"}, {"files"}],
    [{"seeding"}, {"simulators"}, {"mcmc"}, {"networks"}],
    [{"simulation"}],
    [{"diagnostics"}, {"training"}],
    [{"sampling", "persistence", "posterior"}],
    [{"trainer"}],
    [{"comparison"}, {"report"}, {"__init__"}],
    [{"cli"}],
]
SBI_FLOOR = 4
SBI_EXCEPTIONS = {
    "simulators": {"BoxUniform"},
    "networks": {"RatioEstimator"},
    "training": {
        "RatioEstimator",
        "ClassifierConfig",
        "classifier_nn",
        "build_resnet_classifier",
    },
    "simulation": {
        "get_batch_loop_simulator",
        "process_prior",
        "wrap_as_joblib_efficient_simulator",
    },
}
ARVIZ_MODULES = {"diagnostics", "report"}
HEAVY = {"sbi", "torch", "matplotlib", "arviz_base", "arviz_stats", "arviz_plots"}


def locate(module: str) -> tuple[int, set[str]]:
    for floor, rooms in enumerate(FLOORS):
        for room in rooms:
            if module in room:
                return floor, room
    raise AssertionError(f"`{module}` has no floor: add it to FLOORS.")


def read_imports(source: str, package: str) -> Iterator[str]:
    """Yield every imported name in full, those inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            home = [node.module] if node.module else []
            if node.level:
                parents = package.split(".")
                home = [*parents[: len(parents) - node.level + 1], *home]
            yield from (".".join([*home, alias.name]) for alias in node.names)


def find_floor_violations(source: str, file: str) -> list[str]:
    """Check one file, named by its path inside the package, against the floors."""
    parts = Path(file).with_suffix("").parts
    module = parts[0]
    floor, room = locate(module)
    violations = []
    for name in read_imports(source, ".".join(["sbi_aalr", *parts[:-1]])):
        top, *rest = name.split(".")
        if top == "sbi_aalr":
            is_module = rest and any(rest[0] in r for f in FLOORS for r in f)
            target = rest[0] if is_module else "__init__"
            target_floor, _ = locate(target)
            allowed = target in room or target_floor < floor
        elif top == "sbi":
            excepted = SBI_EXCEPTIONS.get(module, set())
            allowed = floor >= SBI_FLOOR or name.split(".")[-1] in excepted
        elif top.startswith("arviz"):
            allowed = module in ARVIZ_MODULES
        else:
            continue
        if not allowed:
            violations.append(f"{file}: {name}")
    return violations


def find_rule_violations(source: str, file: str) -> list[str]:
    """Find asserts, bare excepts, prints and files that are too long."""
    violations = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Assert():
                violations.append(f"{file}:{node.lineno}: assert")
            case ast.ExceptHandler(type=None):
                violations.append(f"{file}:{node.lineno}: bare except")
            case ast.Call(func=ast.Name(id="print")):
                violations.append(f"{file}:{node.lineno}: print")
    if (lines := source.count("\n")) > 300:
        violations.append(f"{file}: {lines} lines")
    return violations


def list_loaded(statement: str) -> set[str]:
    """Run a statement in a fresh interpreter and tell which heavy packages it loads."""
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return HEAVY & set(result.stdout.split())


def test_public_surface_is_exactly_what_we_promise():
    names = ["AALR", "ConvergenceWarning", "MHPosterior", "MHPosteriorParameters"]
    assert sbi_aalr.__all__ == [*names, "__version__"]
    assert dir(sbi_aalr) == sorted(sbi_aalr.__all__)


@pytest.mark.parametrize("name", sorted(set(sbi_aalr.__all__) - {"__version__"}))
def test_public_class_resolves(name):
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
    assert list_loaded("import sbi_aalr; sbi_aalr.AALR") >= {"sbi", "torch"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_file_keeps_the_house_rules(path):
    source, file = path.read_text("utf-8"), path.relative_to(PACKAGE).as_posix()
    assert find_floor_violations(source, file) == []
    assert find_rule_violations(source, file) == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("mcmc/run.py", "from sbi_aalr.posterior.mh_posterior import MHPosterior"),
        ("mcmc/run.py", "from sbi_aalr import diagnostics"),
        ("mcmc/run.py", "from sbi_aalr import AALR"),
        ("mcmc/run.py", "from ..trainer import AALR"),
        ("mcmc/run.py", "from .. import trainer"),
        ("mcmc/run.py", "import sbi_aalr.simulators.slcp"),
        ("mcmc/run.py", "def f():\n    import sbi_aalr.trainer.aalr"),
        ("mcmc/run.py", "from sbi.utils import BoxUniform"),
        ("mcmc/run.py", "import sbi"),
        ("mcmc/run.py", "import arviz_stats"),
        ("errors.py", "from sbi_aalr.types import Simulator"),
        ("networks/mlp.py", "from sbi.neural_nets import classifier_nn"),
        ("simulators/slcp.py", "from sbi.inference import NRE_A"),
        ("simulation/batches.py", "from sbi_aalr.diagnostics import summary"),
        ("posterior/run.py", "from arviz_base import from_dict"),
        ("trainer/aalr.py", "from sbi_aalr import MHPosterior"),
        ("comparison/rows.py", "from sbi_aalr.report import write"),
    ],
)
def test_floor_check_catches_an_import_upwards(file, source):
    assert len(find_floor_violations(source, file)) == 1


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("mcmc/run.py", "from .kernel import step"),
        ("mcmc/run.py", "from sbi_aalr.mcmc.kernel import step\nimport torch"),
        ("mcmc/run.py", "from ..types import LogProbFn"),
        (
            "networks/mlp.py",
            "from sbi.neural_nets.ratio_estimators import RatioEstimator",
        ),
        ("simulators/slcp.py", "from sbi.utils import BoxUniform"),
        ("report/page.py", "import arviz_plots"),
        (
            "trainer.py",
            "import sbi\nfrom sbi_aalr.posterior.mh_posterior import MHPosterior",
        ),
        ("cli/app.py", "from sbi_aalr import AALR, __version__"),
    ],
)
def test_floor_check_allows_an_import_downwards(file, source):
    assert find_floor_violations(source, file) == []


def test_floor_check_refuses_a_module_without_a_floor():
    with pytest.raises(AssertionError, match="`attic` has no floor"):
        find_floor_violations("import math", "attic.py")


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("assert x > 0", "bad.py:1: assert"),
        ("try:\n    f()\nexcept:\n    pass", "bad.py:3: bare except"),
        ("print('done')", "bad.py:1: print"),
        ("x = 1\n" * 301, "bad.py: 301 lines"),
    ],
)
def test_rule_check_catches_what_it_forbids(source, found):
    assert find_rule_violations(source, "bad.py") == [found]


def test_rule_check_allows_a_tidy_file():
    source = "try:\n    f()\nexcept ValueError:\n    pass\n" * 75
    assert find_rule_violations(source, "good.py") == []
