"""`python -m services.cli` is the command `mien`."""

from services.cli.main import main

main()
