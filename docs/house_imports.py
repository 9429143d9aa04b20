"""Reads what imports what: from the sources, without importing or running anything."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeGuard

ROOT = Path(__file__).resolve().parents[1]
PACKAGE, BENCHMARKS = "sbi_aalr", "benchmarks"

# The public surface imports on first use, from the homes in this table.
SURFACE, LAZY_TABLE = f"{PACKAGE}/__init__.py", "_HOMES"


class Import(NamedTuple):
    """One imported name, `target` being the file that it leads to, if it is ours."""

    file: str
    line: int
    name: str
    target: str | None
    typing_only: bool


def read_sources(root: Path = ROOT) -> dict[str, str]:
    """Map every file of the package and the benchmarks, by its path, to its text."""
    files = [f for part in (PACKAGE, BENCHMARKS) for f in (root / part).rglob("*.py")]
    return {f.relative_to(root).as_posix(): f.read_text("utf-8") for f in sorted(files)}


def name_room(file: str) -> str:
    """Tell in which room a file is; a folder inside a room belongs to that room."""
    top, *rest = PurePosixPath(file).with_suffix("").parts
    return rest[0] if top == PACKAGE else top


def list_rooms(sources: Iterable[str]) -> set[str]:
    """List every folder, folders inside rooms too, and every module that lies flat."""
    folders = {str(PurePosixPath(file).parent) for file in sources}
    flat = {file for file in sources if str(PurePosixPath(file).parent) == PACKAGE}
    return folders - {PACKAGE} | flat


def name_module(file: str) -> str:
    parts = PurePosixPath(file).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def find_imports(sources: Mapping[str, str]) -> list[Import]:
    """Read the imports of all files, those inside functions too."""
    homes = {name_module(file): file for file in sources}

    def find_home(file: str, *names: str) -> str | None:
        if name_room(file) == BENCHMARKS:
            # Scripts in one folder import one another by their bare names.
            names = (*names, *(f"{BENCHMARKS}.{name}" for name in names))
        return next((homes[name] for name in names if name in homes), None)

    return [
        Import(file, line, name, find_home(file, name, module), typing_only)
        for file, source in sources.items()
        for line, module, name, typing_only in read_names(source, file)
    ]


def read_names(source: str, file: str) -> Iterator[tuple[int, str, str, bool]]:
    """Yield of each import its line, module and full name, and if it is for types."""
    tree = ast.parse(source, file)
    package = PurePosixPath(file).parent.parts
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        names: list[tuple[str, str]] = []  # with the module of each
        if isinstance(node, ast.Import):
            names = [(alias.name, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            home = package[: len(package) - node.level + 1] if node.level else ()
            start = ".".join([*home, node.module] if node.module else home)
            names = [(start, f"{start}.{alias.name}") for alias in node.names]
        elif file == SURFACE and is_lazy_table(node):
            table = ast.literal_eval(node.value)
            names = [(home, f"{home}.{name}") for name, home in table.items()]
        yield from ((node.lineno, *name, id(node) in for_types) for name in names)


def is_lazy_table(node: ast.AST) -> TypeGuard[ast.Assign]:
    return isinstance(node, ast.Assign) and LAZY_TABLE in map(ast.unparse, node.targets)


def join_files(imports: Iterable[Import]) -> dict[str, set[str]]:
    """Map each file to the files of ours that it imports."""
    arrows: dict[str, set[str]] = {}
    for one in imports:
        if one.target:
            arrows.setdefault(one.file, set()).add(one.target)
    return arrows


def join_rooms(imports: Iterable[Import]) -> dict[str, set[str]]:
    """Map each room to the other rooms that it imports."""
    arrows: dict[str, set[str]] = {}
    for file, targets in join_files(imports).items():
        room = name_room(file)
        arrows.setdefault(room, set()).update({*map(name_room, targets)} - {room})
    return arrows


def find_reachable(start: str, arrows: Mapping[str, set[str]]) -> set[str]:
    """Follow the arrows from a start; it is found itself only if they lead back."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = arrows.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found


def find_circles(arrows: Mapping[str, set[str]]) -> list[tuple[str, ...]]:
    """Find the sets whose members all lead to one another."""
    reachable = {start: find_reachable(start, arrows) for start in arrows}
    circles = {
        tuple(sorted(other for other in found if start in reachable.get(other, ())))
        for start, found in reachable.items()
        if start in found
    }
    return sorted(circles)


def find_floors(rooms: Iterable[str], arrows: Mapping[str, set[str]]) -> dict[str, int]:
    """Count how many floors lie under each room, by the longest way down from it.

    Rooms in a circle are on one floor together.
    """
    circle_of = {room: circle for circle in find_circles(arrows) for room in circle}

    @cache
    def count(circle: tuple[str, ...]) -> int:
        below = {to for room in circle for to in arrows.get(room, ())} - set(circle)
        return 1 + max((count(circle_of.get(to, (to,))) for to in below), default=0)

    return {room: count(circle_of.get(room, (room,))) for room in rooms}
