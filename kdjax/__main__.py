"""`python -m kdjax` and the command `kdjax`."""

from kdjax import ending


def cli() -> None:
  """Runs the command line; listens for signals first, because its imports take a while."""
  ending.listen()
  from kdjax import main

  main.cli()


if __name__ == "__main__":
  cli()
