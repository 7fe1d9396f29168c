"""`python -m coordctl`."""

from coordctl.main import main

main()
