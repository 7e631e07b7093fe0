"""The command line: `kdjax --config=NAME --workdir=FOLDER`, or `python -m kdjax.main`.

Exit codes: 0 done; 42 stopped by a signal; 44 another process is gone; 43 the disk takes no
checkpoint; 2 bad input; 1 a fault. After 42 and 44 the same command resumes, after 43 once there is
space.
"""

from kdjax import ending

if __name__ == "__main__":
  ending.listen()  # before the other imports, which take time

import contextlib
import sys
import sysconfig
import threading
import traceback
from pathlib import Path
from typing import Any

from absl import app

import kdjax
from kdjax.config import plain
from kdjax.core import watch
from kdjax.core.machine import configure_jax, cores
from kdjax.flags import FLAGS, check_alone, command, parse_flags, peer_clients
from kdjax.plugins import find_yours
from kdjax.types import ConfigError, TrainingError

HELP = """\
kdjax --config=NAME --workdir=FOLDER [--config.KEY=VALUE ...]   train; the same command resumes
kdjax --config=NAME --plan [--devices=N]                        what a run would cost
kdjax --config=NAME --plan --target=v5e:2x4,h100:8 [--json]     and on machines that are not here
kdjax compare RUN...         tables of runs, over seeds, with paired differences
kdjax sweep --config=NAME --grid KEY=VALUES --workdir=FOLDER    many runs, resumable
kdjax report RUN             make a run's page again
kdjax reproduce PAPER...     the papers' claims and figures, judged, with their controls
kdjax measure --config=NAME  time the forms of a step on this machine
kdjax configs                the experiments that come with kdjax

NAME is one of those, or a file; NAME:BASELINE runs one of its baselines (mhd_digits:fedavg).
kdjax --helpfull lists all flags."""
COMMANDS = {  # name: its function, (arguments) -> exit code
  "compare": "kdjax.report.compare:compare_cli",
  "configs": "kdjax.config:configs_cli",
  "measure": "kdjax.measure:measure_cli",
  "report": "kdjax.report.page:report_cli",
  "reproduce": "kdjax.reproduce:reproduce_cli",
  "sweep": "kdjax.sweep:sweep_cli",
}
LONGEST_NAME = 255  # characters of a file's name that a file system takes
TOGETHER = 300  # seconds within which all processes start


def main(argv: list[str]) -> int:
  """Runs what the flags ask for; returns the exit code."""
  if FLAGS.version:
    print(f"kdjax {kdjax.__version__}")
    return 0
  if len(argv) > 1:
    raise ConfigError("arguments", argv[1:], "flags begin with --")
  if FLAGS.config is None:
    raise ConfigError("--config", None, "name an experiment, such as mhd_digits")
  if FLAGS.target and not FLAGS.plan:
    hint = "needs --plan: a run uses the machine at hand, not a target"
    raise ConfigError("--target", ",".join(FLAGS.target), hint)
  if FLAGS.workdir is None and not FLAGS.plan:
    raise ConfigError("--workdir", None, "name the run's folder, or use --plan")
  for name, value in (("--profile", FLAGS.profile), ("--devices", FLAGS.devices)):
    if value < 0:
      raise ConfigError(name, value, "must be 0 or more")
  check_alone()
  several = FLAGS.distributed or FLAGS.coordinator
  own = peer_clients(several)
  if FLAGS.target:
    from kdjax.hardware import target

    target.prepare()
  configure_jax(
    FLAGS.devices or (1 if several else cores()), x64=FLAGS.config.model.get("dtype") == "float64"
  )
  if several:
    join()
  with watch.together() if several else contextlib.nullcontext():
    import jax

    devices = jax.devices() if FLAGS.devices else None  # None: as many as are useful
    if FLAGS.target:
      from kdjax import elsewhere

      say = lambda text: print(text, file=sys.stderr, flush=True)  # it takes minutes
      how = dict(price=FLAGS.price, as_json=FLAGS.json, forms=FLAGS.forms, say=say)
      for text in elsewhere.describe(FLAGS.config, FLAGS.target, **how):
        print(text, flush=True)
      return 0
    if FLAGS.plan:
      from kdjax import plan

      print(plan.describe(FLAGS.config, devices=devices))
      return 0
    return train(FLAGS.config, Path(FLAGS.workdir), devices=devices, own=own)


def join() -> None:
  """Makes this process one of several; must precede JAX's first use of a device.

  It ends the process if the others do not start in time.

  Raises:
    ConfigError: if neither the flags nor the cluster name the processes.
  """
  import jax

  who = (FLAGS.coordinator, FLAGS.processes, FLAGS.process)
  if FLAGS.coordinator and None in who:
    raise ConfigError("--coordinator", FLAGS.coordinator, "needs --processes and --process too")
  jax.config.update("jax_enable_preemption_service", False)  # it would catch SIGTERM itself
  line = f"not all processes started within {TOGETHER:g} s; the same command resumes"
  late = threading.Timer(TOGETHER, ending.end, (ending.LOST, line))
  late.daemon = True
  late.start()
  try:
    # At these timeouts JAX aborts; `late` and `watch` end the process earlier, with a message.
    longer = 2 * TOGETHER
    jax.distributed.initialize(
      *who, initialization_timeout=longer, heartbeat_timeout_seconds=longer
    )
  except ValueError as error:
    hint = f"no cluster was detected ({error}): give --coordinator, --processes and --process"
    raise ConfigError("--distributed", True, hint) from None
  finally:
    late.cancel()


def train(config: Any, workdir: Path, *, devices: list | None, own: tuple[int, ...]) -> int:
  """Trains the config's method, then the variants it is compared with; prints the results.

  Args:
    config: ConfigDict.
    workdir: the run's folder.
    devices: jax devices to use; None: as many as are useful.
    own: the clients of a peer; (): the process is not a peer.

  Returns:
    The exit code.
  """
  from kdjax import api
  from kdjax.core import hosts
  from kdjax.peers import Mail
  from kdjax.report import page, table
  from kdjax.training import lock, run_folder

  folder = workdir / peer_folder(own) if own else workdir
  begun = run_folder.is_begun(folder)
  run_folder.check_data(folder, plain(config), None)
  if own:
    mail = Mail(FLAGS.peers, own, **config.peers, stop=ending.asked)
    experiments = {"": api.peer(config, mail, devices=devices, begun=begun)}
  else:
    experiments = api.experiments(config, devices=devices, begun=begun)
  ending.asked()  # from here on a signal waits for the next step, to be saved
  with lock.claimed(FLAGS.peers, own) if own else contextlib.nullcontext():
    how = dict(command=command(), stop=ending.asked, profile=FLAGS.profile)
    code = api.run(experiments, folder, **how)
  if not hosts.first():
    return code
  if code:
    print(f"Stopped; this resumes it:\n  {command()}", file=sys.stderr)
    return code
  try:
    written = str(page.write_report(folder, pdf=False))
  except OSError as error:  # the run is done and saved all the same
    written = f"not written ({error.strerror}): kdjax report {folder} makes it"
  print(table.closing_table(folder))
  print(f"Report   {written}\nPlots    {folder / 'plots'}\nAgain    {command()}")
  return code


def peer_folder(own: tuple[int, ...]) -> str:
  """The name of a peer's folder: its clients' numbers, shortened only if above LONGEST_NAME."""
  from kdjax.sweep.grid import folder_name

  name = "peer-" + "-".join(map(str, own))
  return name if len(name) <= LONGEST_NAME else folder_name(name)


def _whose(error):
  """Where to look for the cause of an unexpected error: the user's own file, if one ran."""
  python = Path(sysconfig.get_path("stdlib"))
  own = Path(kdjax.__file__).parent
  frames = reversed(traceback.extract_tb(error.__traceback__))
  places = [(frame.filename, frame.lineno) for frame in frames]
  if isinstance(error, SyntaxError):  # the file was read and did not run
    places.insert(0, (error.filename or "", error.lineno))
  for name, line in places:
    path = Path(name)
    is_library = any(part.endswith("-packages") for part in path.parts)
    if path.is_file() and not is_library and not any(map(path.is_relative_to, (python, own))):
      return f"{path}, line {line}: {type(error).__name__}: {error}"
  return "this is a fault of the program or of the machine"


def cli() -> None:
  """Runs `main` or a subcommand; bad input ends with one message and code 2, never a traceback."""
  ending.listen()
  words = sys.argv[1:]
  try:
    if words[:1] in (["--help"], ["-h"], ["help"]):
      print(HELP)
    elif words and words[0] in COMMANDS:
      hint = "one of " + ", ".join(COMMANDS)
      sys.exit(find_yours(COMMANDS[words[0]], key="command", hint=hint)(words[1:]))
    elif words and not words[0].startswith("-"):
      raise ConfigError("command", words[0], "one of " + ", ".join(COMMANDS) + ", or flags")
    else:
      app.run(main, flags_parser=parse_flags)
  except ConfigError as error:
    ending.fail(ending.BAD_INPUT, str(error))
  except TrainingError as error:
    ending.fail(ending.FAULT, str(error))
  except Exception as error:
    if isinstance(error, BrokenPipeError) and ending.unread("\n"):
      sys.exit(ending.FAULT)  # the broken pipe was stdout, and its reader needs no message
    traceback.print_exc()
    ending.fail(ending.FAULT, _whose(error))
  finally:
    ending.unread()  # otherwise Python complains about a broken pipe at its end


if __name__ == "__main__":
  cli()
