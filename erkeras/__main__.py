"""`python -m erkeras` is `erkeras`."""

from erkeras.cli import main

main(prog_name="erkeras")
