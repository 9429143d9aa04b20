"""Figures as pictures inside the page, each with words for those who cannot see it."""

import base64
import io
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 110


class Picture(NamedTuple):
    """A picture with what surrounds it.

    Attributes:
        source: The picture itself, as a data URI.
        alt: What it shows, in words.
        caption: What to look for.
        width: Width in pixels, on a screen that has room.
        height: Height in pixels.
    """

    source: str
    alt: str
    caption: str
    width: int
    height: int


def make_picture(figure: "Figure", alt: str, caption: str) -> Picture:
    """Draw a figure into a picture.

    Args:
        figure: Any matplotlib figure.
        alt: What it shows, in words.
        caption: What to look for.
    """
    from matplotlib.image import imread

    buffer = io.BytesIO()
    # White becomes nothing, so that the page's own ground is behind, light or dark.
    for axes in figure.axes:
        axes.set_facecolor("none")
    # Tight, as arviz-plots leaves titles outside its figures.
    figure.savefig(
        buffer, format="png", dpi=_DPI, bbox_inches="tight", facecolor="none"
    )
    height, width = imread(io.BytesIO(buffer.getvalue())).shape[:2]
    code = base64.b64encode(buffer.getvalue()).decode()
    return Picture(f"data:image/png;base64,{code}", alt, caption, width, height)


def make_typesettable(name: str) -> str:
    r"""Return a name that matplotlib can set, if need be with its dollars as they are.

    Example:
        >>> make_typesettable("$x$"), make_typesettable("$\\nonsense$")
        ('$x$', '\\$\\nonsense\\$')
    """
    from matplotlib.mathtext import MathTextParser

    try:
        MathTextParser("path").parse(name)
    except ValueError:
        return name.replace("$", r"\$")
    return name
