"""The page in a real browser, and what it says of sound and of spoiled results."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from browser import (
    DESKTOP,
    PHONE,
    list_broken_pictures,
    list_overflowing,
    list_poor_contrasts,
    list_requests,
    open_browser,
    read_console,
    show,
)
from linear_gaussian import PRIOR, X_O, exact_posterior, log_ratio, simulate
from matplotlib.image import imread
from selenium.webdriver.common.by import By
from spoiled import GaussianPosterior

from sbi_aalr.diagnostics import to_datatree
from sbi_aalr.report import Evidence, run_checks, sections, write_report
from sbi_aalr.report.page import render

HOSTILE = '<script>document.title = "run"</script> & "Söhne" <b>$\\nonsense$</b>'


@pytest.fixture(scope="module")
def browser():
    with open_browser() as window:
        yield window


def make_tree(count=1, names=("rate", "size"), num_draws=250):
    """Independent draws from the exact posterior of `count` observations."""
    torch.manual_seed(0)
    x_o = X_O * torch.linspace(1, 0, count)[:, None] if count > 1 else X_O[None]
    mean = torch.stack([exact_posterior(row)[0] for row in x_o])
    theta = mean + exact_posterior(X_O)[1] * torch.randn(4, num_draws, count, 2)
    return to_datatree(
        theta if count > 1 else theta[:, :, 0],
        observed_data=x_o if count > 1 else X_O,
        parameter_names=names,
        attributes={"seed": 7, "kernel": "jump_walk", "max_rhat": 1.05},
    )


@pytest.fixture(scope="module")
def checked():
    """Evidence with every check run, of an exact ratio."""
    checks, tree = run_checks(
        make_tree(),
        GaussianPosterior(),
        log_ratio,
        simulate,
        PRIOR,
        truth=np.zeros(2),
        num_simulations=3_000,
        seed=1,
    )
    return Evidence(
        tree,
        "Exact ratio",
        truth=np.zeros(2),
        training={
            "training_loss": list(np.geomspace(0.7, 0.4, 500)),
            "validation_loss": [0.6, 0.45],
        },
        facts={"Simulator": "linear Gaussian"},
        commands="posterior.sample((1_000,), x=x_o, seed=7)",
        checks=checks,
    )


@pytest.fixture(scope="module")
def page(checked, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "page.html"
    verdict = write_report(checked, path)
    assert (verdict.state, verdict.answer) == ("good", "No flaw found")
    return path


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory):
    """Many observations, one of them stuck, and text that tries to be markup."""
    tree = make_tree(count=30, names=(HOSTILE, "a/b"), num_draws=600)
    tree["posterior"]["theta"].values[2, :, 17] = 3.0
    evidence = Evidence(
        tree, HOSTILE, facts={HOSTILE: HOSTILE}, commands=HOSTILE, truth=np.zeros(2)
    )
    path = tmp_path_factory.mktemp("report") / "hostile.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sections, "_MAX_PICTURED", 1)
        assert write_report(evidence, path).state == "bad"
    return path


@pytest.mark.parametrize("which", ["page", "hostile_page"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_page_fits_loads_and_can_be_read(browser, request, which, scheme, width):
    path = request.getfixturevalue(which)
    show(browser, path, width=width, scheme=scheme)
    assert browser.execute_script("return innerWidth") == width
    assert list_overflowing(browser) == []
    assert list_broken_pictures(browser) == []
    assert list_poor_contrasts(browser) == []
    assert read_console(browser) == []
    asked = [url for url in list_requests(browser) if not url.startswith("data:")]
    assert asked == [path.as_uri()]
    background = browser.execute_script(
        "return getComputedStyle(document.body).backgroundColor"
    )
    lightness = sum(map(int, background[4:-1].split(",")))
    assert (lightness > 600) == (scheme == "light")


def test_verdict_stands_on_top_in_words_and_colour(browser, page):
    show(browser, page)
    answer = browser.find_element(By.CSS_SELECTOR, ".answer")
    assert "No flaw found" in answer.text
    assert answer.rect["y"] < 200
    assert "good" in answer.get_attribute("class")
    verdicts = browser.find_elements(By.CSS_SELECTOR, ".verdict")
    questions = [one.find_element(By.TAG_NAME, "h3").text for one in verdicts]
    assert questions == [
        *("Converged?", "Calibrated?", "Ratio sound?", "Data familiar?"),
        "Data predicted?",
    ]
    assert all("good" in one.get_attribute("class") for one in verdicts)


def test_everything_the_page_promises_is_on_it(browser, page):
    show(browser, page)
    pictures = browser.find_elements(By.TAG_NAME, "img")
    texts = [picture.get_attribute("alt") for picture in pictures]
    for start in (
        "Corner plot of parameters rate, size",
        "Trace and rank plots of 4 chains",
        "Effective sample size of bulk and tail",
        "Autocorrelation",
        "Observed data among",
        "Expected coverage",
        "Recovery",
        "Ratio ROC test",
        "Normalisation",
        "Discrepancy of the data",
        "Training loss",
    ):
        assert sum(text.startswith(start) for text in texts) == 1, start
    words = browser.find_element(By.TAG_NAME, "main").text
    assert "linear Gaussian" in words and "jump_walk" in words
    assert "posterior.sample((1_000,), x=x_o, seed=7)" in words
    assert "not run" not in words
    assert "`" not in browser.page_source
    assert "What the words mean" in words and "R-hat compares" in words
    rows = browser.find_elements(By.CSS_SELECTOR, "tbody tr")
    assert [row.text.split()[0] for row in rows] == ["rate", "size"]


def test_page_is_one_file_without_scripts_or_links(page):
    html = page.read_text("utf-8")
    for word in ("<script", "http://", "https://", "@import", "url(", ' src="/'):
        assert word not in html
    assert list(page.parent.iterdir()) == [page]


def test_text_from_users_is_shown_and_not_run(browser, hostile_page):
    show(browser, hostile_page)
    assert HOSTILE in browser.title
    assert browser.find_elements(By.TAG_NAME, "script") == []
    heading = browser.find_element(By.TAG_NAME, "h1")
    assert heading.text == HOSTILE
    assert heading.find_elements(By.TAG_NAME, "b") == []
    assert HOSTILE in browser.find_element(By.TAG_NAME, "pre").text
    assert HOSTILE in browser.find_element(By.CSS_SELECTOR, "tbody th").text


def test_troubled_observations_come_first_and_only_they_have_pictures(
    browser, hostile_page
):
    show(browser, hostile_page)
    blocks = browser.find_elements(By.TAG_NAME, "details")
    assert len(blocks) == 30
    names = [block.find_element(By.CLASS_NAME, "name").text for block in blocks]
    assert names[0] == "Observation 17"
    assert sorted(names) == sorted(f"Observation {i}" for i in range(30))
    chips = [block.find_element(By.CLASS_NAME, "chip").text for block in blocks]
    assert chips == ["not converged"] + ["converged"] * 29
    counts = [len(block.find_elements(By.TAG_NAME, "img")) for block in blocks]
    assert counts == [4] + [0] * 29
    tables = [len(block.find_elements(By.TAG_NAME, "table")) for block in blocks]
    assert tables == [1] * 30


def test_details_are_shut_until_asked_for(browser, hostile_page):
    browser.get(hostile_page.as_uri())
    blocks = browser.find_elements(By.TAG_NAME, "details")
    assert not any(block.get_attribute("open") for block in blocks)


def test_what_was_not_run_is_never_green(browser, hostile_page):
    show(browser, hostile_page)
    verdicts = browser.find_elements(By.CSS_SELECTOR, ".verdict")
    assert [one.get_attribute("class") for one in verdicts] == [
        "verdict bad",
        *["verdict unknown"] * 4,
    ]
    missing = browser.find_element(By.CSS_SELECTOR, ".missing").text
    for name in ("Expected coverage", "Ratio ROC test", "Normalisation", "Training"):
        assert name in missing


def test_printing_has_white_paper_and_whole_pictures(browser, page):
    show(browser, page, scheme="dark", media="print", width=700)
    background = "return getComputedStyle(document.body).backgroundColor"
    assert browser.execute_script(background) == "rgb(255, 255, 255)"
    styles = browser.execute_script(
        "return [...document.images].map(one => getComputedStyle(one).filter)"
    )
    assert set(styles) == {"none"}
    assert list_overflowing(browser) == []


def test_printing_unfolds_what_is_folded(browser, hostile_page):
    show(browser, hostile_page, media="print", width=700)
    heights = (
        "return [...document.querySelectorAll('details')].map(one => "
        "[true, false].map(open => { one.open = open; "
        "return one.getBoundingClientRect().height; }))"
    )
    found = browser.execute_script(heights)
    assert len(found) == 30
    assert all(folded == unfolded > 50 for unfolded, folded in found)


@pytest.mark.parametrize(
    ("shape", "num_pictures"),
    [
        ((1, 1, 1), 2),
        ((2, 20, 1), 4),
        pytest.param((40, 20, 2), 4, marks=pytest.mark.slow),
        pytest.param((2, 40, 15), 4, marks=pytest.mark.slow),
    ],
)
def test_chains_of_every_size_make_a_page(shape, num_pictures):
    theta = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    html, _ = render(Evidence(to_datatree(theta), "Small"))
    assert html.count("<img") == num_pictures
    assert html.count('<tr><th scope="row"') == shape[-1]
    if shape[-1] > 12:
        assert "the 12 of 15 parameters with the largest R-hat" in html
    # Draws that never move, and draws that are no numbers.
    for value in (1.0, torch.nan):
        html, verdict = render(Evidence(to_datatree(torch.full(shape, value)), "Odd"))
        assert verdict.state == "bad"


def test_wide_figures_say_on_a_phone_that_they_scroll(browser, page):
    for width, is_shown in ((PHONE, True), (DESKTOP, False)):
        show(browser, page, width=width)
        hints = browser.find_elements(By.CLASS_NAME, "hint")
        wide = browser.find_elements(By.CSS_SELECTOR, "img.wide")
        assert len(hints) == len(wide) > 0
        assert {hint.is_displayed() for hint in hints} == {is_shown}


def test_figures_have_no_ground_of_their_own(page):
    code = re.findall(r"data:image/png;base64,([^\"]+)", page.read_text("utf-8"))
    for one in code:
        corner = imread(io.BytesIO(base64.b64decode(one)))[0, 0]
        assert corner[3] == 0


def test_every_interval_on_the_page_has_one_level(checked):
    for ci_prob, other in ((0.95, "94"), (0.94, "95")):
        evidence = replace(checked, ci_prob=ci_prob)
        html, _ = render(evidence)
        words = re.sub(r"<style>.*?</style>|<[^>]*>", " ", html, flags=re.DOTALL)
        told = set(re.findall(r"(\d+) % (?:from|of them|of those)", words))
        assert told == {f"{100 * ci_prob:g}"} and other not in told
        assert f"68 % and {100 * ci_prob:g} % of the draws" in words
