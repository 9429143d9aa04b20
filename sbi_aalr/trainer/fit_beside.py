"""Fit beside the simulations: on any executor, while they are made.

All estimators are trained at a time. After each batch of simulations that comes, each
takes as many steps as its recipe has for so many simulations, and so has taken all but
the last pass when the last of them comes. What is trained on when depends on the seed
and on nothing else.
"""

import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from sbi_aalr.simulation.batches import Batch, divide
from sbi_aalr.simulation.flow import Flow
from sbi_aalr.trainer.begin import correct_densities, uses_base
from sbi_aalr.trainer.fitting import begin_anew, describe_fit, get_loss, has_to_begin
from sbi_aalr.trainer.journal import Journal
from sbi_aalr.trainer.opening import check_rows
from sbi_aalr.trainer.runner import Runner, RunningFit
from sbi_aalr.trainer.sbi_trainer import SbiTrainer
from sbi_aalr.trainer.stacking import Source
from sbi_aalr.trainer.streaming import Streaming
from sbi_aalr.trainer.structures import (
    choose_fit,
    choose_own_recipe,
    finish_structures,
    limit_time,
)
from sbi_aalr.training.classifiers import check_fits
from sbi_aalr.training.growing import GrowingPasses, GrowingRows
from sbi_aalr.training.history import History, warn_of_hurry
from sbi_aalr.training.recipe import (
    Recipe,
    TrainingSettings,
    choose_recipe,
    find_entry,
)
from sbi_aalr.training.validity import fit_validity

# Simulations to wait for before the first step: a share of all, and how many.
_OPENING_SHARE, _LEAST_OPENING, _MOST_OPENING = 0.1, 64, 1_024
# Of a time limit, what they may take where they are many.
_OPENING_TIME = 0.2
# Of them, what is held out.
_HELD_OUT_SHARE = 0.5


class FitBeside:
    """A fit beside the simulations.

    Args:
        trainer: Whose estimator to fit.
        journal: Where it is written down.
        flow: Where simulations come from.
        prior: Where parameters come from.
        num_simulations: Budget, in simulations.
        streaming: Where simulations are made and kept.

    Attributes:
        failed: Parameters of simulations that failed.
    """

    def __init__(
        self,
        trainer: SbiTrainer,
        journal: Journal,
        flow: Flow,
        prior: Distribution,
        num_simulations: int,
        streaming: Streaming,
    ) -> None:
        self._trainer, self._journal, self._flow = trainer, journal, flow
        self._num_simulations = num_simulations
        # Where some fail, contrasts are what is left of the prior, too.
        self._prior = prior if streaming.on_error == "raise" else None
        self.failed: list[list[float]] = journal.progress.setdefault("failed", [])
        # Times at which the first simulations came, and how many had been tried then.
        self._arrived: list[tuple[float, int]] = []

    def fit(
        self,
        settings: TrainingSettings,
        started: float,
        num_passes: int | None,
        retrain_from_scratch: bool,
    ) -> History:
        """Fit, and return the history of the towers, or of the network."""
        trainer, journal = self._trainer, self._journal
        if journal.is_resumed:
            self._flow.go_on(*journal.progress["arrived"])
        arrivals = self._receive()
        theta, x = self._open(arrivals, settings.time_limit)
        trainer._truncated_prior = trainer._validity = None
        expected = journal.note("expected", self._expect(settings.time_limit))
        entry = find_entry(expected, settings.time_limit)
        if journal.note("begins", has_to_begin(trainer, retrain_from_scratch)):
            begin_anew(trainer, theta, x, entry, expected)
        else:
            check_fits(trainer._neural_net, theta, x)
        num_contrasts = get_loss(trainer).num_contrasts
        recipe = choose_recipe(
            entry,
            expected,
            settings,
            is_separable=num_contrasts is None,
            is_streamed=True,
            num_passes=num_passes,
        )
        check_rows(self._num_simulations, recipe.batch_size, num_contrasts)
        num_held_out = int(_HELD_OUT_SHARE * len(theta))
        self._planned = self._num_simulations - num_held_out
        self._expected = min(self._planned, expected)
        rest = theta[num_held_out:], x[num_held_out:]
        self._rows = GrowingRows(self._planned, *rest)
        held_out = self._hold_out(theta[:num_held_out], x[:num_held_out], recipe)
        journal.keep_opening({"theta": theta, "x": x})
        journal.take_up_rows(self._rows, theta.device)
        self._began = time.perf_counter()
        runner = Runner(journal, self._flow.poll)
        stacks, limit = uses_base(trainer), limit_time(settings, started, 1)
        if stacks:
            correct_densities(trainer)
            structures = trainer._structures or []
            journal.begin([one.estimator for one in structures])
            for number, one in enumerate(structures):
                own = choose_own_recipe(one, recipe, settings, num_passes)
                if own is not None:
                    chosen = choose_fit(trainer, one, settings, None)
                    chosen["show_progress_bars"] &= one.member is None
                    self._prepare(runner, number, own, chosen, held_out, limit)
        else:
            network = trainer._neural_net.to(trainer._device)
            journal.begin([network])
            chosen = {
                "loss": get_loss(trainer),
                "clip_max_norm": settings.clip_max_norm,
                "show_progress_bars": trainer._show_progress_bars,
            }
            limit = settings.time_limit and settings.time_limit - (
                time.perf_counter() - started
            )
            self._prepare(runner, 0, recipe, chosen, held_out, limit)
        runner.run(self._share(), (self._take(one) for one in arrivals), self._rows)
        self._measure_validity(theta[:num_held_out])
        history = runner.find_history(settings.time_limit)
        if stacks:
            held = theta[:num_held_out], x[:num_held_out]
            histories = [runner.histories.get(i) for i in range(len(structures))]
            source = Source(self._fail_to_open, self._rows.collect, lambda: held)
            history = finish_structures(
                trainer, source, histories, history, recipe, settings, started, {}
            )
        else:
            describe_fit(trainer, self._rows.count, recipe)
            warn_of_hurry([history], settings.time_limit)
        stored = max(0, (recipe.num_passes or 1) - 2)
        trainer._summary["recipe"][-1]["stored_per_fresh"] = stored
        return history

    def _receive(self) -> Iterator[tuple[Tensor, Tensor]]:
        """What arrives, with an account of it."""
        device = self._trainer._device
        for arrival in self._flow:
            self.failed.extend(arrival.failed.tolist())
            flow = self._flow
            self._journal.progress["arrived"] = [flow.num_batches, flow.num_tried]
            yield arrival.theta.to(device), arrival.x.to(device)

    def _open(
        self, arrivals: Iterator[tuple[Tensor, Tensor]], limit: float | None
    ) -> tuple[Tensor, Tensor]:
        """The first simulations, which a network is scaled by."""
        device = self._trainer._device
        if (kept := self._journal.recall_opening()) is not None:
            return kept["theta"].to(device), kept["x"].to(device)
        share = int(_OPENING_SHARE * self._num_simulations)
        wanted = min(_MOST_OPENING, max(_LEAST_OPENING, share), self._num_simulations)
        parts: list[tuple[Tensor, Tensor]] = []
        found, started = 0, time.perf_counter()
        while found < wanted:
            arrived = next(arrivals, None)
            if arrived is None:
                break
            parts.append(arrived)
            found += len(arrived[0])
            now, tried = time.perf_counter(), self._flow.num_tried
            # Under a limit nothing comes now and then, while workers start.
            if tried > (self._arrived[-1][1] if self._arrived else 0):
                self._arrived.append((now, tried))
            seconds = now - started
            is_late = limit is not None and seconds > _OPENING_TIME * limit
            if is_late and found >= _LEAST_OPENING:
                break
        if limit is not None and found < 2 and self._flow.num_tried < wanted:
            raise ValueError(
                f"`time_limit` must leave time for simulations, got {limit:g} s, in "
                f"which {self._flow.num_tried} came of the {wanted} that training "
                "begins with. Workers start in it, too: allow more."
            )
        theta, x = (torch.cat(columns) for columns in zip(*parts, strict=True))
        if len(theta) < 2:
            raise ValueError(
                f"`simulator` must succeed more than once, but {len(self.failed)} of "
                f"{self._flow.num_tried} simulations failed."
            )
        return theta, x

    def _expect(self, limit: float | None) -> int:
        """How many simulations may come within a limit, at the pace of the first."""
        if limit is None or len(self._arrived) < 2:
            return self._num_simulations
        (began, before), *_, (ended, tried) = self._arrived
        affordable = int(limit * (tried - before) / max(ended - began, 1e-12))
        return min(self._num_simulations, max(tried, affordable))

    def _hold_out(self, theta: Tensor, x: Tensor, recipe: Recipe) -> list[Batch]:
        prior = self._prior
        prime = None if prior is None else prior.sample((len(theta),)).to(theta)
        whole = Batch(theta, prime, x)
        return list(divide(whole, recipe.batch_size, 2)) if len(theta) > 1 else []

    def _prepare(
        self,
        runner: Runner,
        number: int,
        recipe: Recipe,
        chosen: dict[str, Any],
        held_out: list[Batch],
        limit: float | None,
    ) -> None:
        """Make a fit ready to be run."""
        if (known := self._journal.recall(number)) is not None:
            runner.histories[number] = known
            return
        repeats = max(1, (recipe.num_passes or 1) - 1)
        passes = GrowingPasses(
            self._rows,
            self._expected,
            recipe.batch_size,
            -(-recipe.batch_size // repeats),
            self._prior,
        )
        fit = self._journal.make_fit(
            number,
            passes,
            recipe=recipe,
            time_limit=limit,
            held_out=held_out or None,
            **chosen,
        )
        runner.fits[number] = RunningFit(fit, repeats * passes.num_batches)

    def _take(self, arrived: tuple[Tensor, Tensor]) -> float:
        """Add what arrived to what is trained on; tell which share has come."""
        self._rows.add(*arrived)
        return self._share()

    def _share(self) -> float:
        """The share of the steps to take by now: of simulations, or of a time limit."""
        left = self._num_simulations - self._flow.num_tried
        share = 1 - left / self._planned
        if self._flow.deadline is None:
            return share
        until = self._flow.deadline - self._began
        return max(share, min(1.0, (time.perf_counter() - self._began) / until))

    def _measure_validity(self, held_out: Tensor) -> None:
        """Find out how often simulations succeed, where some failed."""
        if not self.failed:
            return
        valid = torch.cat((held_out, self._rows.collect()[0])).cpu()
        validity = fit_validity(valid, torch.tensor(self.failed))
        self._trainer._validity = validity.to(self._trainer._device)
        correct_densities(self._trainer)

    def _fail_to_open(self, batch_size: int) -> Any:
        raise RuntimeError("All batches have been trained on.")
