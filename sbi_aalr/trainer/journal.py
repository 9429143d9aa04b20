"""How far a call that trains has come, on disk where the user wants that.

What a call is made of is written down once: which call it is, and what it began with.
Then come, every so many seconds and whenever an estimator is fitted, all weights, what
the fit in progress remembers, and the states of the generators. The same call takes
that up and goes on, on the CPU bit for bit as if it had never ended.
"""

import contextlib
import copy
import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor

from sbi_aalr._version import __version__
from sbi_aalr.errors import CheckpointWarning
from sbi_aalr.persistence.checkpoint_files import CheckpointFiles
from sbi_aalr.seeding import read_generators, set_generators
from sbi_aalr.trainer.checkpoints import Checkpoints, check_same_call
from sbi_aalr.training.growing import GrowingRows
from sbi_aalr.training.history import History, unpack_history
from sbi_aalr.training.loop import Fit, run_through
from sbi_aalr.training.parcel import Parcel, label, select
from sbi_aalr.training.passes import Passes, StreamedPasses
from sbi_aalr.training.tuned import Tuner

# From one checkpoint to the next it takes so many times as long as writing one does.
_TIMES_AS_LONG = 20
_OPENING, _STREAM = "opening.", "stream."


class Journal:
    """What has been done of a call.

    Args:
        files: Where it is written; None for nowhere.
        settings: What the user set.

    Attributes:
        is_kept: Whether it is written anywhere.
        is_resumed: Whether there was something to go on from.
        seconds: How long the call took before, in other processes.
        num_begun: Batches of streamed simulations that were trained on before; None
            where all were.
        tuner: What tunes each estimator once it is fitted; None for nothing.
    """

    def __init__(self, files: CheckpointFiles | None, settings: Checkpoints) -> None:
        self._files, self._settings = files, settings
        self.is_kept = files is not None
        found = files.read() if files is not None and settings.resumes else None
        self._found = found[0] if found else None
        self._pieces = found[1] if found else []
        self.is_resumed = self._found is not None
        facts: dict[str, Any] = self._found.facts if self._found else {}
        self.seconds: float = facts.get("seconds", 0.0)
        self.num_begun: int | None = facts.get("num_begun", 0)
        self.tuner: Tuner | None = None
        self._started = time.perf_counter() - self.seconds
        self._identity: dict[str, Any] = {}
        self._noted: dict[str, Any] = facts.get("noted", {})
        self._estimators: Sequence[RatioEstimator] = []
        self._histories: dict[int, History] = {}
        self._stream: StreamedPasses | GrowingRows | None = None
        # How far simulations came that are made beside the training.
        self.progress: dict[str, Any] = facts.get("progress", {})
        # What goes into pieces of the next checkpoint.
        self._waiting: list[dict[str, Tensor]] = []
        self._due, self._is_first = 0.0, True

    def identify(self, call: str, **arguments: Any) -> None:
        """Say which call this is, or raise if another one was begun here.

        Args:
            call: The method.
            **arguments: What makes it the same one, in a form that JSON holds.

        Raises:
            ValueError: If the checkpoint is that of another call.
        """
        identity = {"sbi_aalr": __version__, "call": call, **arguments}
        self._identity = json.loads(json.dumps(identity))
        if self._found is not None:
            begun = self._found.facts["identity"]
            check_same_call(begun, self._identity, self._settings)

    def note(self, name: str, value: Any) -> Any:
        """Write down a fact of the beginning, or return what it was then."""
        return self._noted.setdefault(name, value)

    def recall_opening(self) -> dict[str, Tensor] | None:
        """What `keep_opening` was given when the call began; None if it begins now."""
        return select(_OPENING, self._pieces[0]) if self._pieces else None

    def do_once(
        self, name: str, work: Callable[[], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Do a part of a call, or return what it gave when it was done before.

        Args:
            name: Which part.
            work: What to do; it draws from the global generators, which go on as if it
                had just been done.

        Returns:
            What it gave.
        """
        for piece in self._pieces:
            if made := select(f"{name}:", piece):
                last = self._noted["last_part"]
                if last == name and self._found is not None:
                    set_generators(self._found.facts["generators"])
                return made
        made = work()
        self._noted["last_part"] = name
        if self._files is not None:
            self._waiting.append(label(f"{name}:", made))
            self._write({})
        return made

    def keep_opening(self, tensors: Mapping[str, Tensor]) -> None:
        """Keep what the call begins with, unless it is there."""
        if self._files is not None and not self.is_resumed:
            self._waiting.append(label(_OPENING, tensors))

    def take_up(self, passes: StreamedPasses, device: torch.device) -> None:
        """Give passes what was simulated before, and keep what they simulate."""
        self._stream = passes
        if self.is_resumed:
            passes.go_on(self._recall_stream(device), self.num_begun)

    def take_up_rows(self, rows: GrowingRows, device: torch.device) -> None:
        """Give growing rows what was simulated before, and keep what is added."""
        for part in self._recall_stream(device):
            rows.add(*part)
        rows.take_new()
        self._stream = rows

    def _recall_stream(self, device: torch.device) -> list[tuple[Tensor, Tensor]]:
        kept = [select(_STREAM, piece) for piece in self._pieces[1:]]
        return [(part["theta"].to(device), part["x"].to(device)) for part in kept]

    def begin(self, estimators: Sequence[RatioEstimator]) -> None:
        """Begin to fit estimators one after the other, or go on with them.

        Where it goes on, the generators are brought to where they were.

        Raises:
            OSError: If the checkpoint cannot be written.
            ValueError: If it does not fit the estimators.
        """
        self._estimators = estimators
        if self._found is None:
            if self._files is not None:
                self._write({})
            return
        tensors, facts = self._found
        try:
            for number, estimator in enumerate(estimators):
                own = select(f"estimators.{number}.", tensors)
                if str(number) in facts["fits"]:
                    own = select(f"fits.{number}.updates.estimator.", tensors)
                device = next(estimator.parameters()).device
                weights = {name: value.to(device) for name, value in own.items()}
                estimator.load_state_dict(weights)
                estimator.eval()
        except RuntimeError as error:
            raise ValueError(
                f"`checkpoint` in {self._settings.folder} is of other networks: "
                f"{str(error).splitlines()[0]}"
            ) from error
        for key, found in facts["histories"].items():
            own = select(f"histories.{key}.", tensors)
            self._histories[int(key)] = unpack_history(Parcel(own, found))
        set_generators(facts["generators"])
        self._put_off(0.0)

    def recall(self, number: int) -> History | None:
        """The history of an estimator that has been fitted; None if it has not."""
        return self._histories.get(number)

    def make_fit(self, number: int, passes: Passes, **settings: Any) -> Fit:
        """A fit of one of the estimators, from where it was; arguments as of `Fit`."""
        kept = None
        if self._found is not None and str(number) in self._found.facts["fits"]:
            tensors = select(f"fits.{number}.", self._found.tensors)
            kept = Parcel(tensors, self._found.facts["fits"][str(number)])
        return Fit(self._estimators[number], passes, kept=kept, **settings)

    def fit(self, number: int, passes: Passes, **settings: Any) -> History:
        """Do what `make_fit` makes, tune it, and return the history."""
        estimator = self._estimators[number]
        begun = None if self.tuner is None else copy.deepcopy(estimator)
        fit = self.make_fit(number, passes, **settings)
        history = run_through(fit, lambda: self.write_if_due({number: fit}))
        if self.tuner is not None:
            history = self.tuner.improve(estimator, begun, passes, history, **settings)
        self.finish(number, history)
        return history

    def write_if_due(self, fits: Mapping[int, Fit]) -> None:
        """Write a checkpoint, if it is time; `fits` are those that are in progress."""
        if self._files is not None and time.perf_counter() > self._due:
            self._write(fits)

    def finish(
        self, number: int, history: History, fits: Mapping[int, Fit] | None = None
    ) -> None:
        """Write down that an estimator has been fitted, unless by an interruption."""
        if history.interruption is None:
            self._histories[number] = history
            if self._files is not None:
                self._write(fits or {})

    def _write(self, fits: Mapping[int, Fit]) -> None:
        """Write a checkpoint; the first one must succeed."""
        began = time.perf_counter()
        try:
            self._write_parcel(fits)
        except OSError as error:
            if self._is_first and not self.is_resumed:
                raise
            warnings.warn(
                CheckpointWarning(
                    f"The checkpoint could not be written: {error} Training goes on, "
                    "and it is tried again; until then the last good one stays."
                ),
                stacklevel=2,
            )
        self._is_first = False
        self._put_off(time.perf_counter() - began)

    def _put_off(self, seconds: float) -> None:
        """Make the next checkpoint due later."""
        wait = max(self._settings.every, _TIMES_AS_LONG * seconds)
        self._due = time.perf_counter() + wait

    def _write_parcel(self, fits: Mapping[int, Fit]) -> None:
        files: Any = self._files
        tensors: dict[str, Tensor] = {}
        facts: dict[str, Any] = {
            "identity": self._identity,
            "noted": self._noted,
            "seconds": time.perf_counter() - self._started,
            "generators": read_generators(),
            "num_begun": 0,
            "histories": {},
            "fits": {},
            "progress": self.progress,
        }
        for number, estimator in enumerate(self._estimators):
            if number not in fits:
                tensors |= label(f"estimators.{number}.", estimator.state_dict())
        for name, parts in (("histories", self._histories), ("fits", fits)):
            for number, part in parts.items():
                parcel = part.pack()
                tensors |= label(f"{name}.{number}.", parcel.tensors)
                facts[name][number] = parcel.facts
        if self._stream is not None and (new := self._stream.take_new()):
            theta, x = (torch.cat(column) for column in zip(*new, strict=True))
            self._waiting.append(label(_STREAM, {"theta": theta, "x": x}))
        if isinstance(self._stream, StreamedPasses):
            if fits and self._stream.is_streaming:
                facts["num_begun"] = next(iter(facts["fits"].values()))["num_batches"]
            elif fits or self._histories:
                facts["num_begun"] = None
        while self._waiting:
            files.add_piece(self._waiting[0])
            del self._waiting[0]
        files.write(Parcel(tensors, facts))


@contextlib.contextmanager
def open_journal(settings: Checkpoints) -> Iterator[Journal]:
    """Open the journal of a call, to be written nowhere else until it ends.

    Args:
        settings: What the user set.

    Raises:
        OSError: If it cannot be written to, or another process trains in it.
        ValueError: If it holds a damaged checkpoint, or something else of that name.
    """
    if settings.folder is None:
        yield Journal(None, settings)
        return
    files = CheckpointFiles(Path(settings.folder))
    with files.held():
        yield Journal(files, settings)
