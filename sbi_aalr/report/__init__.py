"""One page that says whether to trust a result, and shows why."""

from sbi_aalr.report.checks import run_checks
from sbi_aalr.report.evidence import Checks, Evidence
from sbi_aalr.report.page import write_report
from sbi_aalr.report.verdicts import Verdict

__all__ = ["Checks", "Evidence", "Verdict", "run_checks", "write_report"]
