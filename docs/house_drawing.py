"""Draws the house: rooms on their floors, and the imports between them as arrows."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from house_imports import find_imports, find_reachable, join_rooms, name_room
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Curve

# The colours of sbi_aalr/diagnostics/plot_style.py; the package itself is not loaded.
BLUE, PALE_BLUE, RED = "#0072B2", "#CFE6F5", "#D55E00"
INK, GREY, LIGHT_GREY = "#333333", "#8A8A8A", "#D9D9D9"

# Where each room stands, in hundredths of the width; the ground floor is spread evenly.
ACROSS = {
    "cli": 42,
    "benchmarks": 78,
    "__init__": 42,
    "comparison": 66,
    "trainer": 42,
    "posterior": 42,
    "persistence": 27,
    "report": 61,
    "training": 19,
    "diagnostics": 61,
    "simulation": 40,
    "sampling": 61,
    "networks": 12,
    "seeding": 33,
    "pools": 54,
    "tuning": 85,
    "mcmc": 75,
    "simulators": 88,
}
FACES, ENGINES = {"trainer", "posterior"}, {"training", "sampling"}
WIDTH, HEIGHT = 17, 0.5  # of a box, in hundredths of the width and in floors
Place = tuple[float, float]


def find_needed_arrows(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Map each room to those it imports, but for what follows from other arrows."""
    arrows = join_rooms(find_imports(sources))
    return {
        room: {
            to
            for to in below
            if not any(to in find_reachable(other, arrows) for other in below - {to})
        }
        for room, below in arrows.items()
    }


def describe(sources: Mapping[str, str], floors: Sequence[Sequence[str]]) -> str:
    """Say in words what the drawing shows; the file keeps it, so a test can compare."""
    arrows = find_needed_arrows(sources)
    sentences = []
    for number, rooms in reversed([*enumerate(floors, 1)]):
        sentences.append(f"Floor {number}: {', '.join(rooms)}.")
        for room in rooms:
            if below := sorted(arrows.get(room, set()) - set(floors[0])):
                sentences.append(f"{room} imports {', '.join(below)}.")
    return " ".join(sentences)


def draw(
    sources: Mapping[str, str], floors: Sequence[Sequence[str]], path: Path
) -> None:
    """Draw the house into an .svg or a .png file."""
    figure = Figure(figsize=(8, 0.78 * len(floors)), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 100), ylim=(0.5, len(floors) + 0.5))
    axes.axis("off")
    places = find_places(floors)
    draw_floors(axes, len(floors))
    draw_arrows(axes, find_needed_arrows(sources), places)
    for room, place in places.items():
        draw_room(axes, room, place, sources)
    save(figure, path, describe(sources, floors))


def find_places(floors: Sequence[Sequence[str]]) -> dict[str, Place]:
    """Map each room to the middle of its box: across, and its floor."""
    step = 92 / len(floors[0])
    ground = {room: (8 + step * (i + 0.5), 1) for i, room in enumerate(floors[0])}
    above = enumerate(floors[1:], 2)
    return ground | {room: (ACROSS.get(room, 50), y) for y, r in above for room in r}


def draw_floors(axes: Axes, num_floors: int) -> None:
    """Draw the numbers of the floors, and the lines between them."""
    style = {"color": GREY, "va": "center"}
    for floor in range(1, num_floors + 1):
        if floor > 1:
            axes.axhline(floor - 0.5, color=LIGHT_GREY, linewidth=0.6, zorder=0)
        axes.text(2, floor, str(floor), fontsize=9, ha="center", **style)
    hint = "Every room may import the ground floor; those arrows are left out."
    axes.text(10.7, 1.4, hint, fontsize=7.5, **style)


def draw_arrows(
    axes: Axes, arrows: Mapping[str, set[str]], places: Mapping[str, Place]
) -> None:
    """Draw the imports, but for those of the ground floor, side by side at each box."""
    ends = [
        (room, to)
        for room in arrows
        for to in sorted(arrows[room])
        if places[to][1] > 1
    ]

    def spread(room: str, others: list[str], other: str) -> float:
        others.sort(key=lambda name: places[name])
        return places[room][0] + 2 * (others.index(other) - (len(others) - 1) / 2)

    for room, to in ends:
        start = spread(room, [b for a, b in ends if a == room], to)
        end = spread(to, [a for a, b in ends if b == to], room)
        if abs(start - end) < 4:
            start = end  # straight, where that is nearly so
        draw_arrow(axes, (start, places[room][1]), (end, places[to][1]))


def draw_arrow(axes: Axes, start: Place, end: Place) -> None:
    """Draw an import from the lower edge of one room to the upper edge of another.

    One that does not go down is red.
    """
    (x, top), (to, bottom) = start, end
    color = GREY if top > bottom else RED
    top, bottom = top - HEIGHT / 2, bottom + HEIGHT / 2
    bend = 0.55 * (top - bottom)
    points = [(x, top), (x, top - bend), (to, bottom + bend), (to, bottom)]
    curve = Curve(points, [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4])
    style = "-|>,head_length=4,head_width=2"
    axes.add_patch(
        FancyArrowPatch(
            path=curve, arrowstyle=style, color=color, linewidth=0.9, zorder=1
        )
    )


def draw_room(axes: Axes, room: str, place: Place, sources: Mapping[str, str]) -> None:
    """Draw a room as a box with its name, and how many files and lines it has."""
    files = [file for file in sources if name_room(file) == room]
    lines = sum(sources[file].count("\n") for file in files)
    flat = files == [f"sbi_aalr/{room}.py"]
    size = f"{lines} lines" if flat else f"{len(files)} files, {lines:,} lines"
    fill = BLUE if room in FACES else PALE_BLUE if room in ENGINES else "white"
    x, y = place
    width = 13 if flat else WIDTH
    axes.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - HEIGHT / 2),
            width,
            HEIGHT,
            boxstyle="round,pad=0,rounding_size=0.8",
            mutation_aspect=0.1,
            facecolor=fill,
            edgecolor=LIGHT_GREY if flat else BLUE,
            linewidth=0.9,
            zorder=2,
        )
    )
    ink, grey = ("white", "white") if room in FACES else (INK, "#666666")
    weight = "normal" if flat else "bold"
    kind = {"ha": "center", "va": "center", "zorder": 3}
    axes.text(x, y + 0.09, room, color=ink, fontsize=10, weight=weight, **kind)
    axes.text(x, y - 0.12, size, color=grey, fontsize=7.5, **kind)


def save(figure: Figure, path: Path, description: str) -> None:
    """Write the figure, the same bytes for the same house."""
    if path.suffix == ".svg":
        metadata = {"Title": "The house", "Description": description, "Date": None}
        with matplotlib.rc_context({"svg.hashsalt": "house"}):
            figure.savefig(path, metadata=metadata)
    else:
        figure.savefig(path, dpi=200)
