"""A line that says what is being done, and for how long already."""

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def show_phases(is_shown: bool) -> Iterator[Callable[[str], object]]:
    """Yield what is to be called with a few words at the start of each phase.

    Args:
        is_shown: Whether to show a progress line; else the words go nowhere.
    """
    if not is_shown:
        yield lambda what: None
        return
    from tqdm.auto import tqdm

    # What there is to do depends on what is found, so there is no total to count to.
    with tqdm(bar_format="{desc} [{elapsed}]", dynamic_ncols=True) as line:
        yield lambda what: line.set_description_str(f"{what} …")
        line.set_description_str("Report written")
