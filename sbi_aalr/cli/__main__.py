"""Run the command line as `python -m sbi_aalr.cli`."""

from sbi_aalr.cli.app import main

main()
