"""One page that says whether to trust a result, and shows why.

`run_report` turns a run into `evidence`, `verdicts` judge it, `page` shows it. A new
check is made in `diagnostics`, as a result with `passed`, `verdict` and perhaps
`plot()`. Here it takes a field of `Checks` in `evidence`, a call in
`checks.run_checks`, its say in `verdicts`, and, if it has a picture, a line in
`sections`.
"""

from sbi_aalr.report.checks import run_checks
from sbi_aalr.report.evidence import Checks, Evidence
from sbi_aalr.report.page import write_report
from sbi_aalr.report.verdicts import Verdict

__all__ = ["Checks", "Evidence", "Verdict", "run_checks", "write_report"]
