"""`python -m kdjax` is the command line."""

from kdjax.main import cli

if __name__ == "__main__":
  cli()
