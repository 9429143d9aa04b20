"""A progress bar over the simulations of each pass."""

import time

from tqdm.auto import tqdm

_SECONDS_BETWEEN_LOOKS = 0.3
# What matters most comes first: a narrow terminal cuts off the end.
_FORMAT = (
    "{desc} |{bar}| {n_fmt}/{total_fmt} simulations "
    "[{elapsed}<{remaining}{postfix}, {rate_fmt}]"
)


class Bar:
    """Counts the simulations of a pass, with the last values of what is shown.

    Args:
        num_simulations: Simulations in a pass.
        num_passes: Passes to come; None if nobody knows.
        show_progress_bars: Whether to show anything at all.
        name: Whose passes they are.
    """

    def __init__(
        self,
        num_simulations: int,
        num_passes: int | None,
        show_progress_bars: bool,
        name: str = "",
    ) -> None:
        self._values: dict[str, str] = {}
        self._looked = time.perf_counter()
        self._name = f"{name}, pass" if name else "Pass"
        self._of_all = "" if num_passes is None else f"/{num_passes}"
        self._bar = tqdm(
            total=num_simulations,
            unit="",
            unit_scale=True,
            bar_format=_FORMAT,
            disable=not show_progress_bars,
            mininterval=0.5,
        )
        self.update = self._bar.update

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def begin_pass(self, index: int) -> None:
        """Count from zero again."""
        self._bar.n = self._bar.last_print_n = 0
        words = f"{self._name} {index + 1}{self._of_all}"
        self._bar.set_description_str(words, refresh=False)

    def end_pass(self) -> None:
        """Count what did not fill a batch as well."""
        self.update((self._bar.total or 0) - self._bar.n)

    def is_due(self) -> bool:
        """Whether it is time to show new values."""
        now = time.perf_counter()
        is_due = now - self._looked > _SECONDS_BETWEEN_LOOKS
        if is_due:
            self._looked = now
        return is_due

    def show(self, **values: float) -> None:
        """Show values, in nats."""
        self._values |= {name: f"{value:.3g}" for name, value in values.items()}
        self._bar.set_postfix(self._values, refresh=False)
