"""The command line: `python -m kdjax.main --config=FILE --workdir=FOLDER`.

Exit codes: 0 done; 42 stopped by a signal, the same command resumes; 2 bad input; 1 a fault.
"""

import copy
import os
import shlex
import signal
import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

import kdjax
from kdjax.core.machine import cores
from kdjax.types import ConfigError, TrainingError

FAULT, BAD_INPUT = 1, 2
FLAGS = flags.FLAGS
_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "The experiment's file.", lock_config=True
)
flags.DEFINE_string("workdir", None, "The run's folder; an existing run is resumed.")
flags.DEFINE_bool("plan", False, "Print what the run would cost, and stop; needs no data.")
flags.DEFINE_integer(
  "devices", 0, "CPU devices to make, 0: as many as pay; with --plan, those described."
)
flags.DEFINE_bool("distributed", False, "One of several processes; Slurm, Open MPI, TPU or k8s.")
flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where nothing detects it.")
flags.DEFINE_integer("processes", None, "How many there are, where nothing detects it.")
flags.DEFINE_integer("process", None, "Which one this is, from 0, where nothing detects it.")
flags.DEFINE_bool("version", False, "Print the version, and stop.")


def main(argv):
  """Runs what the flags ask for; returns the exit code."""
  if FLAGS.version:
    print(f"kdjax {kdjax.__version__}")
    return 0
  if len(argv) > 1:
    raise ConfigError("arguments", argv[1:], "flags begin with --")
  if FLAGS.config is None:
    raise ConfigError("--config", None, "name an experiment, such as configs/mhd_digits.py")
  if FLAGS.workdir is None and not FLAGS.plan:
    raise ConfigError("--workdir", None, "name the run's folder, or use --plan")
  several = FLAGS.distributed or FLAGS.coordinator
  configure_jax(
    FLAGS.devices or (1 if several else cores()), x64=FLAGS.config.model.get("dtype") == "float64"
  )
  if several:
    join()
  import jax

  devices = jax.devices() if FLAGS.devices else None  # None: as many as pay
  if FLAGS.plan:
    from kdjax import plan

    print(plan.describe(FLAGS.config, devices=devices))
    return 0
  return train(FLAGS.config, Path(FLAGS.workdir), devices=devices)


def configure_jax(devices, *, x64):
  """Settings that must precede JAX's first use of a device."""
  import jax

  logging.set_verbosity(logging.WARNING)  # Orbax reports every step of every save as information

  jax.config.update("jax_enable_x64", x64)
  jax.config.update("jax_num_cpu_devices", devices)
  cache = os.environ.get("JAX_COMPILATION_CACHE_DIR") or Path.home() / ".cache" / "kdjax" / "jit"
  jax.config.update("jax_compilation_cache_dir", str(cache))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def join():
  """Makes this process one of several; must precede JAX's first use of a device.

  Raises:
    ConfigError: where neither the flags nor the cluster say who takes part.
  """
  import jax

  who = (FLAGS.coordinator, FLAGS.processes, FLAGS.process)
  if FLAGS.coordinator and None in who:
    raise ConfigError("--coordinator", FLAGS.coordinator, "needs --processes and --process too")
  try:
    jax.distributed.initialize(*who)
  except ValueError as error:
    hint = f"no cluster was detected ({error}): give --coordinator, --processes and --process"
    raise ConfigError("--distributed", True, hint) from None


def train(config, workdir, *, devices):
  """Trains the config's method, then those that it is compared with; prints what came out.

  `devices` None: as many as pay.
  """
  from kdjax import experiment
  from kdjax.core import hosts
  from kdjax.report import page, table
  from kdjax.training import loop, run_folder

  stop = stop_on_signals()
  first = experiment.build(config, devices=devices)
  experiments = {"": first}
  for name in config.compare:
    experiments[name] = experiment.build(rival(config, name), data=first.data, devices=devices)
  for name, one in experiments.items():  # whatever is wrong with any of them is said before work
    run_folder.check_config(workdir / name, one.config)
  for name, one in experiments.items():
    code = loop.run(one, workdir / name, command=command(), stop=stop)
    if code != loop.DONE:
      if hosts.first():
        print(f"Stopped; this resumes it:\n  {command()}", file=sys.stderr)
      return code
  if not hosts.first():
    return loop.DONE
  page = page.write_report(workdir)
  print(table.closing_table(workdir))
  print(f"Report   {page}\nPlots    {workdir / 'plots'}\nAgain    {command()}")
  return loop.DONE


def rival(config, name):
  """The same experiment with another method."""
  other = copy.deepcopy(config)
  with other.unlocked():
    other.algorithm = name
    other.algo = config.compare_algo[name]
    if name in config.compare_rounds:
      other.steps, other.rounds = 0, config.compare_rounds[name]
    other.compare = ()
  return other


def stop_on_signals():
  """A function that says whether SIGTERM or SIGINT has come; a second one ends at once."""
  seen = []

  def note(number, frame):
    seen.append(number)
    signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    print("stopping after this step; once more to end at once", file=sys.stderr)

  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, note)
  return lambda: bool(seen)


def command():
  """The command that resumes or repeats this run, on as many processes as you like."""
  own = ("coordinator", "processes", "process")  # only this launch's
  kept, words = [], iter(sys.argv[1:])
  for word in words:
    flag, equals, _ = word.partition("=")
    if not (flag.startswith("-") and flag.lstrip("-") in own):
      kept.append(word)
    elif not equals:
      next(words, None)  # its value is a word of its own
  return "python -m kdjax.main " + shlex.join(kept)


def parse_flags(argv):
  """Parses flags, turning what ml_collections raises for a bad config into a ConfigError."""
  try:
    rest = flags.FLAGS(argv)
    if FLAGS.config is not None:
      FLAGS.config.to_dict()  # a file that could not be loaded says so only when it is used
    return rest
  except ConfigError:
    raise
  except (AttributeError, KeyError) as error:
    hint = f"no such key: {error.args[0]}"  # a KeyError's own text would be quoted once more
    raise ConfigError("--config", " ".join(argv[1:]), hint) from None
  except (flags.Error, TypeError, ValueError, ImportError, OSError) as error:
    raise ConfigError("--config", " ".join(argv[1:]), str(error)) from None


def cli():
  """Runs `main`; bad input ends with one message and exit code 2, never a traceback."""
  try:
    app.run(main, flags_parser=parse_flags)
  except ConfigError as error:
    print(f"kdjax: {error}", file=sys.stderr)
    sys.exit(BAD_INPUT)
  except TrainingError as error:
    print(f"kdjax: {error}", file=sys.stderr)
    sys.exit(FAULT)


if __name__ == "__main__":
  cli()
