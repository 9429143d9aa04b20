"""What plots have in common: they do not pile up, and are loaded when needed."""

import subprocess
import sys

import matplotlib.pyplot as plt

from sbi_aalr.diagnostics.plot_style import make_axes


def test_make_axes_gives_as_many_as_asked_for_and_pyplot_forgets_them():
    plt.close("all")
    figure, axes = make_axes(6, 2, columns=3)
    assert figure.axes == axes and len(axes) == 3
    assert tuple(figure.get_size_inches()) == (6, 2)
    assert plt.get_fignums() == []


def test_diagnostics_import_without_plotting_libraries():
    code = (
        "import sys, sbi_aalr.diagnostics; "
        "heavy = {'matplotlib', 'arviz_plots', 'arviz_stats', 'sbi', 'scipy'}; "
        "sys.exit(', '.join(heavy & set(sys.modules)) or None)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
