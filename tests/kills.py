"""Kill a process at any of the steps in which it changes files."""

import multiprocessing
import os
import random
import signal
import warnings
from contextlib import contextmanager

import pytest

_STEPS = ("open", "mkdir", "fsync", "replace", "unlink", "rmdir", "chmod")

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs to fork")


@contextmanager
def watch(on_step):
    """Call before each step."""
    kept = {name: getattr(os, name) for name in _STEPS}

    def wrap(step):
        def call(*arguments, **options):
            on_step()
            return step(*arguments, **options)

        return call

    for name, step in kept.items():
        setattr(os, name, wrap(step))
    try:
        yield
    finally:
        for name, step in kept.items():
            setattr(os, name, step)


def count_steps(work):
    """How many steps some work takes; it is done."""
    steps = []
    with watch(lambda: steps.append(None)):
        work()
    return len(steps)


def choose_steps(count, number):
    """So many of the steps, at random, the last ones among them."""
    return sorted(random.Random(1).choices(range(1, count + 1), k=number))


def kill_at(work, number):
    """Do some work in a process that is killed before this step."""
    steps = []

    def count():
        steps.append(None)
        if len(steps) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def run():
        with watch(count):
            work()

    child = multiprocessing.get_context("fork").Process(target=run)
    with warnings.catch_warnings():
        # Python warns of threads in the parent, which the child does not use.
        warnings.simplefilter("ignore", DeprecationWarning)
        child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
