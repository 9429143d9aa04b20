"""The house keeps to its plan, and every rule of it notices when it is broken."""

import re
import sys
from pathlib import Path

import house
import house_drawing
import house_imports
import pytest

TESTS = Path(__file__).parent
NOT_ROOMS = {"same_numbers"}  # data, and the cases that made them

# A small house in order: one file in every room, each of which imports one floor down.
SOUND = {
    "sbi_aalr/__init__.py": "_HOMES = {'AALR': 'sbi_aalr.trainer'}",
    "sbi_aalr/errors.py": "",
    "sbi_aalr/types.py": "",
    "sbi_aalr/checks.py": "",
    "sbi_aalr/seeding.py": "from sbi_aalr.checks import check",
    "sbi_aalr/networks/__init__.py": "from sbi_aalr.networks.mlp import mlp",
    "sbi_aalr/networks/mlp.py": "import torch\nfrom ..types import Simulator",
    "sbi_aalr/mcmc/__init__.py": "from sbi_aalr.mcmc.kernels import walk",
    "sbi_aalr/mcmc/kernel.py": "",
    "sbi_aalr/mcmc/kernels/walk.py": "from sbi_aalr.mcmc.kernel import Kernel",
    "sbi_aalr/simulation/adapt.py": "from sbi_aalr import types",
    "sbi_aalr/sampling/target.py": "from sbi_aalr.networks import mlp",
    "sbi_aalr/training/loop.py": "def f():\n    from sbi_aalr.simulation import adapt",
    "sbi_aalr/diagnostics/table.py": "import arviz_stats",
    "sbi_aalr/persistence/run_store.py": "from ..training import loop",
    "sbi_aalr/report/page.py": "from sbi_aalr.diagnostics.table import summary",
    "sbi_aalr/posterior/run.py": "from sbi_aalr.sampling.target import Target",
    "sbi_aalr/trainer/__init__.py": "import sbi\nimport sbi_aalr.posterior.run",
    "sbi_aalr/comparison/rows.py": "from sbi_aalr.trainer import AALR",
    "sbi_aalr/cli/app.py": "from sbi_aalr import AALR, __version__",
    "sbi_aalr/cli/named_simulator.py": "import importlib\nimportlib.import_module(x)",
    "benchmarks/recipe.py": "print('seconds')",
    "benchmarks/sampler.py": "import recipe\nfrom sbi_aalr import AALR",
}


@pytest.fixture(scope="module")
def sources():
    return house.read_sources()


def list_folders(parent):
    return {p.name for p in parent.iterdir() if p.is_dir() and any(p.glob("*.py"))}


# The real house.


def test_house_has_no_violation(sources):
    assert house.find_violations(sources) == []


def test_house_keeps_to_its_aims(sources):
    measured = house.measure(sources)
    assert measured.file_circles == measured.room_circles == []
    assert 14 < measured.num_rooms <= 25
    assert 4 < measured.num_floors <= 9
    assert 100 < measured.most_lines <= 300


def test_house_is_read_in_whole(sources):
    some = {"sbi_aalr/checks/priors.py", "sbi_aalr/mcmc/kernels/hmc.py"}
    assert some <= sources.keys()
    arrows = house_imports.join_rooms(house.find_imports(sources))
    assert {"trainer", "posterior"} <= arrows["__init__"]
    assert "training" in arrows["trainer"] and "sampling" in arrows["posterior"]


def test_every_room_has_one_floor_and_every_floor_has_rooms(sources):
    planned = [room for rooms in house.FLOORS for room in rooms]
    assert sorted(planned) == sorted({house.name_room(file) for file in sources})


def test_every_exception_is_needed(sources):
    used = {
        (house.name_room(one.file), one.name.split(".")[-1])
        for one in house.find_imports(sources)
        if one.name.startswith("sbi.")
    }
    assert {name for _, name in used} >= house.SBI_NAMES
    more = {(room, name) for room, n in house.MORE_SBI_NAMES.items() for name in n}
    assert more <= used
    assert sources.keys() >= house.DYNAMIC


def test_tests_lie_in_folders_named_like_the_rooms():
    rooms = list_folders(TESTS.parent / "sbi_aalr")
    assert list_folders(TESTS) - NOT_ROOMS == rooms


def test_every_room_above_the_ground_has_a_place_in_the_drawing():
    assert house_drawing.ACROSS.keys() == {r for f in house.FLOORS[1:] for r in f}


def test_drawing_shows_the_imports_of_today(sources):
    drawing = (TESTS.parent / "docs" / "images" / "house.svg").read_text("utf-8")
    redraw = "Run: python docs/house.py --draw docs/images/house.svg"
    assert house_drawing.describe(sources, house.FLOORS) in drawing, redraw


@pytest.mark.parametrize(
    "page", ["docs/explanation/architecture.md", "CONTRIBUTING.md"]
)
def test_page_names_files_that_exist(page):
    root = TESTS.parent
    named = re.findall(r"`((?:\w+/)+\w+\.(?:py|md))`", (root / page).read_text("utf-8"))
    assert len(named) > 4
    missing = [
        file
        for file in named
        if not (root / file).is_file() and not (root / "sbi_aalr" / file).is_file()
    ]
    assert missing == []


# Each rule, on a small house.


def test_sound_house_has_no_violation():
    assert house.find_violations(SOUND) == []


def test_rooms_count_folders_inside_rooms_and_flat_modules():
    assert house.measure(SOUND).num_rooms == 19


def test_floors_follow_the_longest_way_down():
    # cli, __init__, trainer, posterior, sampling, networks, types
    assert house.measure(SOUND).num_floors == 7


@pytest.mark.parametrize(
    ("file", "source", "found"),
    [
        (
            "mcmc/run.py",
            "import torch\nfrom sbi_aalr.posterior import run",
            ":2: .* up",
        ),
        ("mcmc/run.py", "import sbi_aalr.trainer", ":1: .* up"),
        ("mcmc/run.py", "from sbi_aalr import AALR", r"up, from .* \(__init__\)"),
        ("mcmc/run.py", "from ..posterior.run import Run", "up"),
        ("mcmc/run.py", "from .. import trainer", "up"),
        ("mcmc/kernels/hmc.py", "from ...trainer import AALR", "up"),
        (
            "mcmc/run.py",
            "def f():\n    from sbi_aalr.posterior import run",
            ":2: .* up",
        ),
        (
            "mcmc/run.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
            "    from sbi_aalr.posterior import run",
            ":3: .* for types only, goes up, from floor 2 .* to floor 6",
        ),
        (
            "mcmc/run.py",
            "import typing as t\nif t.TYPE_CHECKING:\n    import sbi_aalr.trainer",
            ":3: .* for types only",
        ),
        ("mcmc/run.py", "from sbi_aalr.networks import mlp", "goes sideways"),
        ("errors.py", "from sbi_aalr.types import Simulator", "goes sideways"),
        ("comparison/fits.py", "from sbi_aalr import AALR", "goes sideways"),
        ("simulators/slcp.py", "from sbi_aalr.training import loop", "goes sideways"),
        (
            "__init__.py",
            "_HOMES = {'rows': 'sbi_aalr.comparison.rows'}",
            ":1: .*sideways",
        ),
        ("__init__.py", "_HOMES = {'old': 'sbi_aalr.attic'}", ":1: .* no file"),
        ("trainer/new.py", "from sbi_aalr.trainer.old import fit", "leads to no file"),
        ("posterior/new.py", "import sbi_aalr.mcmc.attic", "leads to no file"),
        ("mcmc/run.py", "import sbi", "sbi is not for mcmc"),
        ("mcmc/run.py", "from sbi.utils import within_support", "not for mcmc"),
        ("networks/new.py", "from sbi.neural_nets import classifier_nn", "networks"),
        ("simulators/slcp.py", "from sbi.inference import NRE_A", "not for simulators"),
        ("simulators/slcp.py", "from sbi.utils import BoxUniform, process", "process"),
        ("persistence/new.py", "from sbi.utils import *", "not for persistence"),
        ("report/new.py", "import sbi.utils", "not for report"),
        ("posterior/new.py", "import arviz_stats as azs", "ArviZ is for"),
        ("trainer/new.py", "def f():\n    from arviz_base import load", ":2: .*ArviZ"),
        ("cli/new.py", "import arviz", "ArviZ is for diagnostics and report"),
        ("posterior/new.py", "importlib.import_module('json')", ":1: import_module"),
        ("posterior/new.py", "from importlib import import_module as i", "import_mod"),
        ("posterior/new.py", "\n__import__('json')", ":2: __import__"),
        ("attic.py", "import math", ":1: lies flat"),
        ("attic/old.py", "import math", "attic has no floor"),
        ("mcmc/run.py", "x = 1\nassert x", ":2: assert"),
        ("mcmc/run.py", "try:\n    f()\nexcept:\n    pass", ":3: bare except"),
        ("mcmc/run.py", "print('done')", ":1: print"),
        ("mcmc/run.py", "x = 1\n" * 301, "301 lines"),
    ],
)
def test_planted_fault_is_found(file, source, found):
    [violation] = house.find_violations(SOUND | {f"sbi_aalr/{file}": source})
    assert re.match(rf"sbi_aalr/{file}.*{found}", violation)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("mcmc/run.py", "from .kernel import step\nfrom ..errors import AALRWarning"),
        ("mcmc/kernels/hmc.py", "from ..kernel import Kernel"),
        ("mcmc/kernels/hmc.py", "from . import walk"),
        ("simulators/slcp.py", "from sbi.utils import BoxUniform"),
        ("sampling/log_prior.py", "from sbi.utils.sbiutils import mcmc_transform"),
        ("persistence/prior.py", "from sbi.utils import BoxUniform"),
        ("posterior/sbi_posterior.py", "import sbi\nfrom sbi.inference import NRE_A"),
        ("report/figure.py", "def draw():\n    import arviz_plots"),
        ("diagnostics/coverage.py", "import sbi_aalr.simulation.adapt"),
        ("mcmc/attic/old.py", "from sbi_aalr.mcmc.kernel import step"),
        ("mcmc/run.py", "try:\n    f()\nexcept ValueError:\n    pass\n" * 75),
    ],
)
def test_sound_addition_is_allowed(file, source):
    assert house.find_violations(SOUND | {f"sbi_aalr/{file}": source}) == []


def test_circle_between_two_files_of_a_room_is_found():
    circle = {
        "sbi_aalr/mcmc/a.py": "x = 1\nfrom sbi_aalr.mcmc import b",
        "sbi_aalr/mcmc/b.py": "def f():\n    from .a import x",
    }
    [violation] = house.find_violations(SOUND | circle)
    assert "a circle of 2" in violation
    assert "sbi_aalr/mcmc/a.py:2 imports sbi_aalr/mcmc/b.py" in violation
    assert "sbi_aalr/mcmc/b.py:2 imports sbi_aalr/mcmc/a.py" in violation


def test_circle_between_three_files_is_found():
    circle = {
        "sbi_aalr/mcmc/__init__.py": "from sbi_aalr.mcmc.a import x",
        "sbi_aalr/mcmc/a.py": "from sbi_aalr.mcmc.kernels.b import x",
        "sbi_aalr/mcmc/kernels/b.py": "from sbi_aalr.mcmc import x",
        "sbi_aalr/mcmc/outside.py": "from sbi_aalr.mcmc import x",
    }
    [violation] = house.find_violations(SOUND | circle)
    assert "a circle of 3" in violation
    assert "outside" not in violation
    assert len(house.measure(SOUND | circle).file_circles) == 1


def test_circle_between_rooms_is_counted_and_shares_a_floor():
    circle = {
        "sbi_aalr/training/a.py": "from sbi_aalr.persistence import run_store",
        "sbi_aalr/training/loop.py": "",
    }
    measured = house.measure(SOUND | circle)
    assert measured.room_circles == [("persistence", "training")]
    assert measured.file_circles == []
    assert measured.num_floors == house.measure(SOUND).num_floors


def test_house_that_outgrows_its_aims_is_found():
    rooms = {f"sbi_aalr/mcmc/extra_{i}/file.py": "" for i in range(10)}
    [violation] = house.find_violations(SOUND | rooms)
    assert violation == "sbi_aalr: 29 rooms; 25 are allowed."


def test_scripts_may_print_and_use_all_of_sbi():
    script = {"benchmarks/new.py": "import sbi\nassert recipe\nprint(1)"}
    assert house.find_violations(SOUND | script) == []


def test_sources_are_read_from_a_folder(tmp_path):
    for file, source in SOUND.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(source, "utf-8")
    assert house.read_sources(tmp_path) == SOUND
    (tmp_path / "sbi_aalr" / "attic.py").write_text("import math\n")
    [violation] = house.find_violations(house.read_sources(tmp_path))
    assert violation.startswith("sbi_aalr/attic.py:1: lies flat")


def test_script_prints_the_numbers_and_fails_on_a_violation(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["house.py"])
    monkeypatch.setattr(house, "read_sources", lambda: SOUND)
    assert house.main() == 0
    assert "19 rooms" in capsys.readouterr().out
    monkeypatch.setattr(house, "read_sources", lambda: SOUND | {"sbi_aalr/a.py": ""})
    assert house.main() == 1
    assert "sbi_aalr/a.py:1: lies flat" in capsys.readouterr().out
