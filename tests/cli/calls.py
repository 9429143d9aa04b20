"""Commands in this process."""

import os

from typer.testing import CliRunner

from sbi_aalr.cli.app import app

ENVIRONMENT = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1"}


def call(*arguments, command=app):
    return CliRunner().invoke(command, list(map(str, arguments)), env=ENVIRONMENT)
