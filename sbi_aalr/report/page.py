"""Write the page: one HTML file that asks nothing of the network.

The page forbids itself any request by a Content-Security-Policy. Text goes through
Jinja's autoescape, so that names from users are shown, never run.
"""

import platform
import re
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata, resources
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING

from sbi_aalr._version import __version__
from sbi_aalr.checks import check_type
from sbi_aalr.diagnostics.draws import read_draws
from sbi_aalr.files import check_output_file, write_text
from sbi_aalr.report.evidence import Evidence
from sbi_aalr.report.sections import describe_observations, picture_checks
from sbi_aalr.report.verdicts import Verdict, judge_all, sum_up
from sbi_aalr.report.words import WORDS

if TYPE_CHECKING:
    from markupsafe import Markup

_PACKAGES = ("sbi", "torch", "arviz-base", "arviz-stats", "arviz-plots", "numpy")
# By this a report is known, those of earlier versions too.
_FOOTER = b"<footer><p>Made by sbi_aalr "
_SYMBOLS = {"good": "✓", "doubtful": "!", "bad": "✕", "unknown": "?"}


def write_report(
    evidence: Evidence,
    path: str | Path,
    *,
    on_phase: Callable[[str], object] = lambda what: None,
) -> Verdict:
    """Write a self-contained HTML page about a run.

    Args:
        evidence: What is shown.
        path: The file to write; its folder is made if needed.
        on_phase: Called with a few words at the start of each part of the work.

    Returns:
        The verdict at the top of the page.

    Raises:
        IsADirectoryError: If the path is a folder.
        OSError: If nothing can be written there.
        ValueError: If it does not end in `.html`, or is there and no report.
    """
    path = check_path(path)
    check_type("evidence", evidence, Evidence, "an Evidence")
    html, verdict = render(evidence, on_phase)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, html)
    return verdict


def check_path(path: str | Path, name: str = "path") -> Path:
    """Return the path, or raise before the long part if nothing can be written there.

    Only an earlier report is replaced.

    Args:
        path: The file to write.
        name: Name of the argument, for the message.

    Raises:
        IsADirectoryError: If the path is a folder.
        OSError: If nothing can be written there.
        ValueError: If it does not end in `.html`, or is there and no report.
    """
    return check_output_file(name, path, (".html", ".htm"), is_report)


def is_report(path: Path) -> bool:
    """Whether a file is a page that this package wrote."""
    return _FOOTER in path.read_bytes()


def render(
    evidence: Evidence, on_phase: Callable[[str], object] = lambda what: None
) -> tuple[str, Verdict]:
    """Return the page as text, and the verdict at its top."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    chains = evidence.measure_convergence()
    verdicts = judge_all(chains, evidence.checks)
    answer = sum_up(verdicts)
    observations = describe_observations(evidence, chains, on_phase)
    pictures, missing = picture_checks(evidence)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["mark_code"] = _mark_code
    environment.filters["drop_code"] = lambda text: text.replace("`", "")
    template = environment.from_string(_read("template.html"))
    html = template.render(
        title=evidence.title,
        style=Markup(_read("style.css")),
        answer=answer,
        verdicts=verdicts,
        symbols=_SYMBOLS,
        facts={**_list_facts(evidence), **evidence.facts},
        observations=observations,
        batched=read_draws(evidence.tree).batched,
        pictured=sum(bool(one.pictures) for one in observations),
        pictures=pictures,
        missing=missing,
        words=WORDS,
        commands=evidence.commands,
        versions=_list_versions(),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
    )
    return html, answer


def _mark_code(text: str) -> "Markup":
    """Escape a text, and set what it has between backticks as code."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _list_facts(evidence: Evidence) -> dict[str, str]:
    """Say what the chains themselves know about how they were made."""
    draws = read_draws(evidence.tree)
    chains, kept, count, width = draws.theta.shape
    facts = {
        "Observations": f"{count:,}",
        "Parameters": f"{width}",
        "Draws": f"{chains:,} chains of {kept:,} draws"
        + (" for each observation" if count > 1 else ""),
    }
    names = {
        "kernel": "Kernel",
        "warmup_steps": "Warm-up steps",
        "thin": "Thinning, at least",
        "max_steps": "Steps, at most",
        "seed": "Seed of the sampling",
    }
    attributes = evidence.tree.attrs
    facts |= {
        words: show_value(attributes[name])
        for name, words in names.items()
        if name in attributes
    }
    if "created_at" in attributes:
        made = datetime.fromisoformat(attributes["created_at"])
        facts["Chains made"] = made.strftime("%Y-%m-%d %H:%M %Z")
    return facts


def show_value(value: object) -> str:
    """Show whole numbers in groups of three digits, anything else as it is."""
    return f"{value:,}" if isinstance(value, Integral) else str(value)


def _list_versions() -> str:
    parts = [f"Python {platform.python_version()}", f"sbi_aalr {__version__}"]
    parts += [f"{name} {metadata.version(name)}" for name in _PACKAGES]
    return ", ".join(parts)


def _read(name: str) -> str:
    return resources.files("sbi_aalr.report").joinpath(name).read_text("utf-8")
