"""The `sbi-aalr` command: one file a subcommand."""

from sbi_aalr.cli.app import main

__all__ = ["main"]
