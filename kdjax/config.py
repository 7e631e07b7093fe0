"""Values that no experiment can have, whatever its method: refused before any work is done."""

from kdjax.types import ConfigError

NOT_NEGATIVE = (
  "seed", "steps", "rounds", "public_batch", "log_every", "save_every", "holdout", "limit",
  "graph.seed", "mesh.steps_per_dispatch",
)  # fmt: skip
ENTRY = "each entry is (how many, model, model arguments)"


def validate(config):
  """Raises ConfigError for the first value of a config, a nested dict, that cannot be."""
  _numbers(config)
  _images(config)
  _clients(config["clients"])
  _names(config)


def _numbers(config):
  for key in NOT_NEGATIVE:
    group, _, name = key.rpartition(".")
    value = (config[group] if group else config).get(name, 0)
    if value < 0:
      raise ConfigError(key, value, "must not be negative")
  for key in ("batch", "replicas"):
    if config[key] < 1:
      raise ConfigError(key, config[key], "must be at least 1")
  if config["seed"] + config["replicas"] > 2**31:
    raise ConfigError("seed", config["seed"], "must be below 2**31, that of every replica too")
  if not config["mesh"]["device_tflops"] > 0:
    raise ConfigError("mesh.device_tflops", config["mesh"]["device_tflops"], "must be above 0")


def _images(config):
  for key in ("source_info", "public_source_info"):
    shape = config[key]["image"]
    sizes = shape if isinstance(shape, list) else ()  # zeros where nothing is given
    if len(sizes) not in (1, 3) or not all(isinstance(n, int) and n >= 0 for n in sizes):
      hint = "(height, width, channels) in pixels, or (features,) of a table"
      raise ConfigError(f"{key}.image", shape, hint)
  for key, value in config["normalise"].items():  # `data.facts` counts them
    numbers = isinstance(value, list) and all(isinstance(x, int | float) for x in value)
    if value != "data" and (not numbers or not value):
      hint = "one number, or one for each channel or feature; or 'data'"
      raise ConfigError(f"normalise.{key}", value, hint)


def _clients(clients):
  if not clients:
    raise ConfigError("clients", (), "needs at least one entry (how many, model, model arguments)")
  for entry in clients:
    n, name, arguments = entry if isinstance(entry, list) and len(entry) == 3 else (0, "", {})
    if not (isinstance(n, int) and n > 0 and isinstance(name, str) and isinstance(arguments, dict)):
      raise ConfigError("clients", entry, ENTRY)
    for key in ("classes", "heads"):
      if key in arguments:
        hint = f"{key} is no model argument: the data and the method set it"
        raise ConfigError("clients", entry, hint)


def _names(config):
  for name in config["compare"]:
    if name not in config["compare_algo"]:
      hint = f"has no hyper-parameters: compare_algo knows {', '.join(config['compare_algo'])}"
      raise ConfigError("compare", name, hint)
  for name, arguments in config["evals"].items():
    every = arguments.get("every") if isinstance(arguments, dict) else None
    if not (isinstance(every, int) and every >= 0):
      hint = "a dict with `every`: batches between two evaluations, or 0: after every round"
      raise ConfigError(f"evals.{name}", arguments, hint)
