"""kdjax: agents with private data teach each other by distillation, all in one jitted step."""

__version__ = "0.1.0"


def load(workdir, *, client, step=None):
  """A trained client's prediction function; see `kdjax.use.load`."""
  from kdjax import use  # imported here so that `import kdjax` starts nothing

  return use.load(workdir, client=client, step=step)
