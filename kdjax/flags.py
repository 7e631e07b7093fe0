"""The flags of `kdjax --config=NAME ...`: what there is, and what is wrong with those given."""

import contextlib
import shlex
import sys
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from kdjax.config import check_flags, find_config, read_config, schema
from kdjax.plugins import look_in
from kdjax.types import ConfigError

# The errors of ml_collections for invalid values, and for files that cannot be loaded.
BAD_FLAGS = (TypeError, ValueError, OverflowError, SyntaxError, ImportError, OSError)
FLAGS = flags.FLAGS
_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "The experiment's file.", lock_config=True
)
flags.DEFINE_string("workdir", None, "The run's folder; an existing run is resumed.")
flags.DEFINE_bool("plan", False, "Print what the run would cost, and stop; needs no data.")
flags.DEFINE_list("target", [], "With --plan: compiled for these, v5e:2x4, h100:8, FILE.toml:8.")
flags.DEFINE_bool("forms", False, "With --target: a price for every form of a training step.")
flags.DEFINE_float("price", 0.0, "With --target: what a device costs an hour.")
flags.DEFINE_integer("profile", 0, "Trace so many steps for XProf, into WORKDIR/profile.")
flags.DEFINE_bool("json", False, "With --target: as JSON.")
flags.DEFINE_integer(
  "devices", 0, "CPU devices to make, 0: as many as pay; with --plan, those described."
)
flags.DEFINE_bool("distributed", False, "One of several processes; Slurm, Open MPI, TPU or k8s.")
flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where nothing detects it.")
flags.DEFINE_integer("processes", None, "How many there are, where nothing detects it.")
flags.DEFINE_integer("process", None, "Which one this is, from 0, where nothing detects it.")
flags.DEFINE_string("peers", None, "A shared folder: the clients of --peer train here, apart.")
flags.DEFINE_list("peer", [], "With --peers, the numbers of the clients that train here.")
flags.DEFINE_bool("version", False, "Print the version, and stop.")


def check_alone() -> None:
  """Refuses flags that mean nothing without another flag, which is missing.

  Raises:
    ConfigError: names both.
  """
  several = ("coordinator", "distributed")
  needed: dict[str, tuple[str, ...]] = dict.fromkeys(("forms", "price", "json"), ("target",))
  needed |= dict(processes=several, process=several)
  for name, others in needed.items():
    given = FLAGS[name].value != FLAGS[name].default
    if given and not any(FLAGS[other].value for other in others):
      hint = " or ".join(f"--{other}" for other in others)
      raise ConfigError(f"--{name}", FLAGS[name].value, f"means nothing without {hint}")


def peer_clients(several: bool) -> tuple[int, ...]:
  """The clients of this peer, or () if the process is not a peer.

  Raises:
    ConfigError: for flags that do not go together.
  """
  if not FLAGS.peers:
    if FLAGS.peer:
      raise ConfigError("--peer", ",".join(FLAGS.peer), "needs --peers, the shared folder")
    return ()
  if several or FLAGS.plan:
    raise ConfigError("--peers", FLAGS.peers, "a peer is one process, and has no --plan")
  if not FLAGS.peer or not all(n.isdecimal() for n in FLAGS.peer):
    hint = "with --peers: the numbers of the clients that train here, such as 0 or 0,1"
    raise ConfigError("--peer", ",".join(FLAGS.peer), hint)
  return tuple(sorted(map(int, FLAGS.peer)))


def command() -> str:
  """The command that resumes or repeats this run, on any number of processes."""
  script = Path(sys.argv[0])
  program = [str(script)] if script.stem == "kdjax" else [sys.executable, "-m", "kdjax.main"]
  own = ("coordinator", "processes", "process")  # flags of this launch alone
  kept, words = [], iter(sys.argv[1:])
  for word in words:
    flag, equals, _ = word.partition("=")
    if not (flag.startswith("-") and flag.lstrip("-") in own):
      kept.append(word)
    elif not equals:
      next(words, None)  # its value is a word of its own
  return shlex.join([*program, *kept])


def parse_flags(argv: list[str]) -> list[str]:
  """Parses flags, turning what ml_collections raises for a bad config into a ConfigError."""
  try:
    rest = flags.FLAGS(with_files(argv))
    if FLAGS.config is not None:
      FLAGS.config.to_dict()  # a file that could not be loaded raises only when it is used
    return rest
  except ConfigError:
    raise
  except (AttributeError, KeyError) as error:
    for _, _, name in _configs(argv):
      with contextlib.suppress(AttributeError, KeyError):  # of the file itself
        check_flags(read_config(name), argv)
    hint = f"no such key: {error.args[0]}"  # str(error) of a KeyError would add quotes
    raise ConfigError("--config", " ".join(argv[1:]), hint) from None
  except flags.UnrecognizedFlagError as error:
    name, (_, equals, value) = error.flagname, error.flagvalue.partition("=")
    key = name.split(".")[0] in schema()
    hint = f"no such flag; write --config.{name}{equals}{value}" if key else str(error)
    raise ConfigError(f"--{name}", value, hint) from None
  except (flags.Error, *BAD_FLAGS) as error:
    for _, _, name in _configs(argv):
      check_flags(read_config(name), argv)
    words = argv[1:]
    given = max((w for w in words if w in str(error)), key=len, default=" ".join(words))
    raise ConfigError("--config", given, f"{error}{_tuple_hint(argv)}") from None


def with_files(argv: list[str]) -> list[str]:
  """The command line with a config's name replaced by its file.

  Raises:
    ConfigError: if there is no such config.
  """
  out = list(argv)
  for at, before, name in _configs(argv):
    path, words = find_config(name)
    look_in(path.resolve().parent)
    out[at] = before + (f"{path}:{words}" if words else str(path))
  return out


def _configs(argv):
  """(the word's index, the text before the name in it, the name) of every `--config`."""
  for i, word in enumerate(argv):
    flag, equals, value = word.partition("=")
    if flag.lstrip("-") == "config" and flag.startswith("-"):
      yield (i, f"{flag}=", value) if equals else (i + 1, "", "".join(argv[i + 1 : i + 2]))


def _tuple_hint(argv):
  """The hint for a tuple that was not written as one: `--config.compare=separate,fedavg`."""
  for word in argv:
    key, _, value = word.partition("=")
    if key.lstrip("-") == "config.compare" and not value.lstrip().startswith(("(", "{", "[")):
      names = tuple(value.split(","))
      return f"; write {key}={shlex.quote(repr(names))}"
  return ""
