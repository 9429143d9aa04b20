"""Simulators that workers can import, most of which fail where theta_1 > 1."""

import os
import signal
import time

import numpy as np
import torch


def simulate(theta):
    """Over a batch, with noise from two global generators."""
    noise = torch.from_numpy(np.random.normal(size=tuple(theta.shape)))
    return theta + 0.1 * (torch.randn_like(theta) + noise)


def simulate_slowly(theta):
    time.sleep(0.05)
    return simulate(theta)


def simulate_row(theta):
    """One parameter set at a time, in NumPy."""
    if theta.ndim != 1:
        raise ValueError("one at a time, please")
    return np.asarray(theta) + np.random.normal(size=2)


def is_bad(theta):
    return theta[..., 0] > 1


def raise_in_batch(theta):
    if is_bad(theta).any():
        raise ZeroDivisionError("too stiff")
    return simulate(theta)


def raise_in_row(theta):
    x = simulate_row(theta)
    if is_bad(theta):
        raise ZeroDivisionError("too stiff")
    return x


def return_nan(theta):
    return torch.where(is_bad(theta)[:, None], torch.nan, simulate(theta))


def hang(theta):
    if is_bad(theta).any():
        time.sleep(60)
    return simulate(theta)


def hang_in_c(theta):
    """Never come back to the interpreter, so that no signal is heard."""
    if is_bad(theta).any():
        sum(range(10**11))
    return simulate(theta)


def kill_worker(theta):
    if is_bad(theta).any():
        os.kill(os.getpid(), signal.SIGKILL)
    return simulate(theta)


def kill_worker_in_row(theta):
    x = simulate_row(theta)
    if is_bad(theta):
        os.kill(os.getpid(), signal.SIGKILL)
    return x


class KilledOnce:
    """Kill the worker that simulates first, as an operator might."""

    def __init__(self, path):
        self.path = str(path)

    def __call__(self, theta):
        x = simulate(theta)
        if len(theta) == 10 and not os.path.exists(self.path):
            open(self.path, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return x
