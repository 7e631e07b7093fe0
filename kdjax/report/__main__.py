"""`python -m kdjax.report WORKDIR` makes a run's page again."""

from kdjax.report import page

if __name__ == "__main__":
  page.cli()
