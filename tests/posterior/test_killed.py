"""Posteriors that are killed while they are saved, sampled or reported on."""

import copy

import pytest
import torch
import xarray as xr
from kills import choose_steps, count_steps, kill_at, needs_fork
from linear_gaussian import PRIOR, SHORT, X_O, build_quadratic, simulate

from sbi_aalr import MHPosterior
from sbi_aalr.persistence.run_store import locate_parts
from sbi_aalr.sampling import chunks

pytestmark = needs_fork
NUMBERS = [4, pytest.param(25, marks=pytest.mark.slow)]


def list_names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("number", NUMBERS)
def test_killed_save_leaves_the_earlier_posterior_or_the_new(
    posterior, estimator, tmp_path, number
):
    changed = copy.deepcopy(estimator)
    with torch.no_grad():
        next(changed.parameters()).add_(1)
    other = MHPosterior.from_estimator(changed, PRIOR)
    theta = PRIOR.sample((10,))
    values = [one.potential(theta, x=X_O) for one in (posterior, other)]
    posterior.save(tmp_path)
    count = count_steps(lambda: other.save(tmp_path))
    for step in choose_steps(count, number):
        posterior.save(tmp_path)
        kill_at(lambda: other.save(tmp_path), step)
        loaded = MHPosterior.load(tmp_path, classifier=build_quadratic)
        found = loaded.potential(theta, x=X_O)
        assert any(torch.equal(found, value) for value in values)
        other.save(tmp_path)
        assert list_names(tmp_path) == ["posterior.json", "posterior.safetensors"]
        loaded = MHPosterior.load(tmp_path, classifier=build_quadratic)
        assert torch.equal(loaded.potential(theta, x=X_O), values[1])


@pytest.mark.parametrize("number", NUMBERS)
def test_killed_run_goes_on_and_answers_for_no_other(
    posterior, tmp_path, monkeypatch, number
):
    monkeypatch.setattr(chunks, "_CHUNK", 3)
    torch.manual_seed(3)
    many = simulate(PRIOR.sample((6,)))
    out = tmp_path / "run.nc"

    def sample(x):
        return posterior.sample_batched((20,), x, seed=4, out=out, **SHORT)

    count, other = count_steps(lambda: sample(many)), many + 1
    whole, content = posterior.chains, out.read_bytes()
    # What has no date in it.
    with xr.open_datatree(out) as tree:
        kept = tree["posterior"].to_dataset().load()
    for step in [*choose_steps(count, number), count - 1]:
        out.unlink(missing_ok=True)
        kill_at(lambda: sample(many), step)
        if out.exists():
            assert len(out.read_bytes()) == len(content)
            with pytest.raises(ValueError, match="`out` must not exist yet"):
                sample(many)
        else:
            try:
                draws = sample(other)
            except ValueError as error:
                assert "`x` was" in str(error)  # noqa: PT017
            else:
                assert not torch.equal(posterior.chains.theta, whole.theta)
                assert torch.equal(
                    draws,
                    posterior.sample_batched((20,), other, seed=4, **SHORT),
                )
                out.unlink()
            sample(many)
            assert torch.equal(posterior.chains.theta, whole.theta)
        assert list_names(tmp_path) == ["run.nc"] and not locate_parts(out).exists()
        with xr.open_datatree(out) as tree:
            assert tree["posterior"].to_dataset().equals(kept)


@pytest.mark.parametrize("number", NUMBERS)
def test_killed_report_leaves_the_earlier_one_or_the_new(
    posterior, tmp_path, unpictured, number
):
    posterior.sample((40,), x=X_O, seed=1, **SHORT)
    path = tmp_path / "report.html"

    def report(title):
        posterior.report(path, title=title)
        return path.read_text("utf-8")

    count = count_steps(lambda: report("Earlier"))
    steps = [*choose_steps(min(count, 12), number), count - 1, count]
    for step in steps[-number:]:
        report("Earlier")
        kill_at(lambda: report("Later"), step)
        page = path.read_text("utf-8")
        assert page.rstrip().endswith("</html>")
        assert ("<h1>Earlier" in page) != ("<h1>Later" in page)
        report("Later")
        assert list_names(tmp_path) == ["report.html"]
