"""The house: which room stands on which floor, and whether the imports keep to it.

    python docs/house.py                               # the numbers, and what is wrong
    python docs/house.py --draw docs/images/house.svg  # the drawing (or a .png)

A room is a folder, or a module that lies flat. An import goes down, or stays inside.
"""

import argparse
import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from house_imports import (
    BENCHMARKS,
    PACKAGE,
    SURFACE,
    Import,
    find_circles,
    find_floors,
    find_imports,
    join_files,
    join_rooms,
    list_rooms,
    name_room,
    read_sources,
)

# The plan, from the ground up. Rooms of one floor do not import one another.
FLOORS = (
    ("_version", "types", "errors", "checks", "files"),
    ("networks", "seeding", "pools", "mcmc"),
    ("simulation", "sampling", "tuning"),
    ("training", "diagnostics", "simulators"),
    ("persistence", "report"),
    ("posterior",),
    ("trainer",),
    ("__init__", "comparison"),
    ("cli", BENCHMARKS),
)
FLOOR_OF = {room: i for i, rooms in enumerate(FLOORS, 1) for room in rooms}
FLAT = {"__init__", "_version", "errors", "types", "checks", "seeding", "pools"}
MOST_ROOMS, MOST_FLOORS, MOST_LINES = 25, 9, 300

# Who may import a module whose name is known at run time only: the public surface, and
# the reader of a user's simulator.
DYNAMIC = {SURFACE, f"{PACKAGE}/cli/named_simulator.py"}

# Who may import anything of sbi; what everyone may, its priors and the class of its
# ratio estimators; and what some may besides, its wrappers of what a user gave, and its
# builders of networks.
SBI_ROOMS = {"posterior", "trainer", "comparison", BENCHMARKS}
SBI_NAMES = {"RatioEstimator", "BoxUniform", "MultipleIndependent"}
MORE_SBI_NAMES = {
    "persistence": {"OneDimPriorWrapper", "PytorchReturnTypeWrapper"},
    "simulation": {"process_prior"},
    "sampling": {
        "mcmc_transform",
        "move_distribution_to_device",
    },
    "training": {
        "ClassifierConfig",
        "ConditionalDensityEstimator",
        "NeuralPosterior",
        "build_resnet_classifier",
        "classifier_nn",
    },
}
ARVIZ_ROOMS = {"diagnostics", "report", "benchmarks"}


class Measure(NamedTuple):
    """What the house is judged by; a circle is what goes round in it."""

    num_rooms: int
    num_floors: int
    file_circles: list[tuple[str, ...]]
    room_circles: list[tuple[str, ...]]
    longest_file: str
    most_lines: int


def measure(sources: Mapping[str, str]) -> Measure:
    """Count rooms, floors, circles and lines."""
    imports = find_imports(sources)
    arrows = join_rooms(imports)
    longest = max(sources, key=lambda file: count_lines(sources[file]))
    return Measure(
        len(list_rooms(sources)),
        max(find_floors(map(name_room, sources), arrows).values()),
        find_circles(join_files(imports)),
        find_circles(arrows),
        longest,
        count_lines(sources[longest]),
    )


def count_lines(source: str) -> int:
    return source.count("\n")


def find_violations(sources: Mapping[str, str]) -> list[str]:
    """Say in a sentence each, with file and line, what breaks a rule of the house."""
    imports = find_imports(sources)
    return [
        *find_unplanned_rooms(sources),
        *(sentence for one in imports for sentence in check_import(one)),
        *find_file_circles(imports),
        *(s for file, source in sources.items() for s in check_file(file, source)),
        *find_missed_aims(sources),
    ]


def find_unplanned_rooms(sources: Mapping[str, str]) -> Iterator[str]:
    """Find modules that lie flat without leave, and rooms that have no floor."""
    unplanned = {}
    for file in sources:
        room = name_room(file)
        if file == f"{PACKAGE}/{room}.py" and room not in FLAT:
            yield f"{file}:1: lies flat; move it into the room of its idea."
        elif room not in FLOOR_OF:
            unplanned.setdefault(room, file)
    for room, file in unplanned.items():
        yield f"{file}:1: the room {room} has no floor in FLOORS of docs/house.py."


def check_import(one: Import) -> Iterator[str]:
    """Check one import against the floors, and against the homes of sbi and ArviZ."""
    place, room = f"{one.file}:{one.line}:", name_room(one.file)
    library = one.name.split(".")[0]
    if one.target:
        here, there = FLOOR_OF.get(room), FLOOR_OF.get(name_room(one.target))
        outside = name_room(one.target) != room
        if outside and here is not None and there is not None and there >= here:
            way = "up" if there > here else "sideways"
            types = ", for types only," if one.typing_only else ""
            yield (
                f"{place} {one.name}{types} goes {way}, from floor {here} ({room}) to "
                f"floor {there} ({name_room(one.target)})."
            )
    elif library == PACKAGE:
        yield f"{place} {one.name} leads to no file."
    elif library == "sbi" and room not in SBI_ROOMS:
        if one.name.split(".")[-1] not in SBI_NAMES | MORE_SBI_NAMES.get(room, set()):
            yield f"{place} {one.name} is not for {room}; SBI_NAMES says what is."
    elif library.startswith("arviz") and room not in ARVIZ_ROOMS:
        yield f"{place} {one.name}: ArviZ is for diagnostics and report."


def find_file_circles(imports: list[Import]) -> Iterator[str]:
    """Say for every circle between files which imports it is made of."""
    for circle in find_circles(join_files(imports)):
        links = sorted(
            {
                f"{one.file}:{one.line} imports {one.target}"
                for one in imports
                if one.file in circle and one.target in circle
            }
        )
        yield f"{circle[0]}: a circle of {len(circle)}: {'; '.join(links)}."


def check_file(file: str, source: str) -> Iterator[str]:
    """Find asserts, bare excepts, prints, imports by a made-up name, and long files."""
    package = file.startswith(f"{PACKAGE}/")
    for node in ast.walk(ast.parse(source, file)):
        match node:
            case ast.Assert() if package:
                yield f"{file}:{node.lineno}: assert; raise an error that tells more."
            case ast.ExceptHandler(type=None):
                yield f"{file}:{node.lineno}: bare except; name the error."
            case ast.Call(func=ast.Name(id="print")) if package:
                yield f"{file}:{node.lineno}: print; the package never prints."
            case (
                ast.Name(id="import_module" | "__import__" as name)
                | ast.Attribute(attr="import_module" as name)
                | ast.alias(name="import_module" as name)
            ) if file not in DYNAMIC:
                yield f"{file}:{node.lineno}: {name} hides an import from its readers."
    if (lines := count_lines(source)) > MOST_LINES:
        yield f"{file}:{lines}: {lines} lines; {MOST_LINES} are allowed."


def find_missed_aims(sources: Mapping[str, str]) -> Iterator[str]:
    """Find where the whole house is too large."""
    house = measure(sources)
    if house.num_rooms > MOST_ROOMS:
        yield f"{PACKAGE}: {house.num_rooms} rooms; {MOST_ROOMS} are allowed."
    if house.num_floors > MOST_FLOORS:
        yield f"{PACKAGE}: {house.num_floors} floors; {MOST_FLOORS} are allowed."


def main() -> int:
    """Print or draw the house; fail if it breaks a rule."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--draw", type=Path, metavar="FILE", help="an .svg or a .png")
    sources = read_sources()
    if path := parser.parse_args().draw:
        from house_drawing import draw

        draw(sources, FLOORS, path)
        return 0
    house, violations = measure(sources), find_violations(sources)
    print(f"{house.num_rooms} rooms (at most {MOST_ROOMS})")
    print(f"{house.num_floors} floors (at most {MOST_FLOORS})")
    print(f"{len(house.file_circles)} circles between files")
    print(f"{len(house.room_circles)} circles between rooms")
    print(f"{house.most_lines} lines in {house.longest_file} (at most {MOST_LINES})")
    print(f"{len(violations)} violations")
    for violation in violations:
        print(violation)
    return bool(violations)


if __name__ == "__main__":
    raise SystemExit(main())
