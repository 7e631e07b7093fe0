"""`python -m kdjax` and the command `kdjax`."""

from kdjax import ending


def cli() -> None:
  """Runs the command line, which takes a while to import: signals are heard before."""
  ending.listen()
  from kdjax import main

  main.cli()


if __name__ == "__main__":
  cli()
