"""`python -m coordctl`."""

from coordctl.main import run

run()
