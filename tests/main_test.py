"""What a user types, and what happens when it is wrong: `python -m kdjax.main` in its own process.

What ends at once does so in a fork of a process that has imported everything.
"""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest
from commands import ROOT, Commands
from helpers import FIVE_SMALL

import kdjax
from kdjax.flags import command
from kdjax.variants import OWN

DIGITS = "--config=configs/mhd_digits.py"
SMALL = f"--config.clients={FIVE_SMALL!r}"
SHORT = (SMALL, "--config.steps=40", "--config.replicas=2", "--config.evals.accuracy.every=20")


def start(*arguments, **kwargs):
  command = [sys.executable, "-m", "kdjax.main", *arguments]
  pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
  return subprocess.Popen(command, cwd=ROOT, env=dict(os.environ), **pipes, **kwargs)


def run(*arguments):
  process = start(*arguments)
  out, err = process.communicate(timeout=300)
  return process.returncode, out, err


@pytest.fixture(scope="module")
def commands():
  with contextlib.closing(Commands()) as made:
    yield made


def test_the_quickstart_ends_with_a_table_a_report_and_the_command_to_resume(commands, tmp_path):
  arguments = (DIGITS, f"--workdir={tmp_path}", *SHORT)
  code, out, err = run(*arguments)
  assert code == 0, err
  for word in ("mhd", "aux3", "separate", "fedavg", "private %", "shared %"):
    assert word in out
  assert str(tmp_path / "report.html") in out and f"--workdir={tmp_path}" in out
  assert "step 40/40" in err and "loss" in err and "left" in err
  assert "Traceback" not in err
  summary = json.loads((tmp_path / "summary.json").read_text())
  assert (summary["replicas"], summary["steps"], len(summary["runs"])) == (2, 40, 2)
  there = {path.name for path in tmp_path.iterdir() if not path.suffix}  # no variant's has one
  assert there - {"separate", "fedavg"} <= {*OWN}
  first = summary["runs"][0]
  assert len(first["shared_accuracy"]["aux3"]) == 5
  assert [len(row) for row in first["accuracy_by_owner"]["main"]] == [5] * 5
  for method in ("separate", "fedavg"):
    other = json.loads((tmp_path / method / "summary.json").read_text())
    assert other["runs"][0]["label_counts"] == first["label_counts"]  # the same split
  page = (tmp_path / "report.html").read_text()
  assert page.count("data:image/png;base64,") >= 5 and "http://" not in page
  assert list(tmp_path.glob("tensorboard/events*")) and list(tmp_path.glob("plots/*.png"))

  lines = (tmp_path / "metrics.jsonl").read_text()
  assert commands.run(*arguments)[0] == 0  # the same command again changes nothing
  assert (tmp_path / "metrics.jsonl").read_text() == lines


def test_a_signal_saves_and_the_same_command_goes_on(tmp_path):
  endless = (SMALL, "--config.steps=200000", "--config.log_every=20", "--config.compare=()")
  process = start(DIGITS, f"--workdir={tmp_path}", *endless)
  deadline = time.time() + 120
  metrics = tmp_path / "metrics.jsonl"
  while not (metrics.exists() and metrics.read_text()) and time.time() < deadline:
    time.sleep(0.2)
  process.send_signal(signal.SIGTERM)
  _, err = process.communicate(timeout=60)
  assert process.returncode == 42, err
  assert "this resumes it" in err and f"--workdir={tmp_path}" in err
  assert [p for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()]


@pytest.mark.parametrize(
  "own",
  [
    ["--coordinator=host:1", "--processes=2", "--process=1"],
    ["--coordinator", "host:1", "--processes", "2", "-process", "1"],
  ],
)
def test_the_command_that_resumes_leaves_out_who_takes_part(own, monkeypatch):
  monkeypatch.setattr(sys, "argv", ["main.py", *own[:2], "--config", "c.py", *own[2:], "--plan"])
  assert command() == shlex.join([sys.executable, "-m", "kdjax.main", "--config", "c.py", "--plan"])
  monkeypatch.setattr(sys, "argv", ["bin/kdjax", "--config", "c.py", "--plan"])
  assert command() == "bin/kdjax --config c.py --plan"


@pytest.mark.parametrize("buffered", ["", "1"])
def test_a_list_that_nobody_reads_to_its_end_ends_without_a_word(buffered):
  """As of `kdjax configs | head`."""
  reader, writer = os.pipe()
  os.close(reader)
  environment = dict(os.environ, PYTHONUNBUFFERED=buffered)
  command = [sys.executable, "-m", "kdjax.main", "configs"]
  done = subprocess.run(
    command, cwd=ROOT, env=environment, stdout=writer, stderr=subprocess.PIPE, text=True
  )
  os.close(writer)
  assert done.stderr == ""


def test_a_file_that_asks_for_what_is_not_there_is_named(commands, tmp_path):
  (tmp_path / "mine.py").write_text("def get_config():\n  return {}['no key of mine']\n")
  code, _, err = commands.run(f"--config={tmp_path / 'mine.py'}", "--workdir=/nowhere")
  assert code == 2 and "no key of mine" in err and "Traceback" not in err


@pytest.mark.parametrize(
  "text, said",
  [
    ("def broken():\n  return [][1]\n", "line 2: IndexError: list index"),
    ("x = 1\ndef broken(:\n", "line 2: SyntaxError: "),
  ],
)
def test_a_fault_in_a_file_of_ones_own_is_named(commands, tmp_path, text, said):
  (tmp_path / "my_source.py").write_text(text)
  (tmp_path / "mine.py").write_text(
    "from kdjax import api\n"
    "def get_config():\n  return api.get_config('mhd_digits', source='my_source:broken')\n"
  )
  code, _, err = commands.run(f"--config={tmp_path / 'mine.py'}", f"--workdir={tmp_path / 'run'}")
  assert code == 1 and f"{tmp_path / 'my_source.py'}, {said}" in err


def test_version():
  assert run("--version")[:2] == (0, f"kdjax {kdjax.__version__}\n")


TWO_ARCHITECTURES = "--config.clients=" + "".join(
  f"({n},'mlp',{{'hidden':({width},8),'activation':'tanh'}})," for n, width in ((2, 8), (3, 9))
)

# Each: flags, then words that the one message must hold: the key, the value, what would be right.
BAD_FLAGS = [
  ([DIGITS, "--config.skwe=1"], ["kdjax: skwe = '1': no such key; did you mean skew?\n"]),
  (
    [DIGITS, "--config.steps=3", "--config.clients[0][0]=2", "--config.algo.teacher=3"],
    ["kdjax: algo.teacher = '3': no such key; did you mean teachers?\n"],
  ),
  (["--config", "mhd_digits", "--config.a.b=1"], ["kdjax: a.b = '1': there is no group 'a'\n"]),
  (
    [DIGITS, "--config.compare=()", "--config.steps=many"],
    ["steps = 'many': must be a whole number"],
  ),
  (["--config", "mhd_digits", "--config.steps=many"], ["steps = 'many': must be a whole number"]),
  (
    ["--config=mhd_digits:fedprox"],
    ["--config = 'mhd_digits:fedprox': 'fedprox' is none of the baselines supervised, fedavg"],
  ),
  ([DIGITS, "--config.source=my.npz"], ["source = 'my.npz': did you mean 'npz:my.npz'?"]),
  ([DIGITS, "--config.algorithm=fedavg"], ["another method's: fedavg takes local_steps"]),
  (["--config=configs/no_such.py"], ["configs/no_such.py"]),
  ([], ["--config", "mhd_digits"]),
  (
    [DIGITS, "--algo.teachers=3"],
    ["kdjax: --algo.teachers = '3': no such flag; write --config.algo.teachers=3\n"],
  ),
  ([DIGITS, "--devicse=3"], ["kdjax: --devicse = '3': Unknown", "Did you mean: devices"]),
  ([DIGITS, "--target=v5e:2x4"], ["--target", "v5e:2x4", "needs --plan"]),
  ([DIGITS, "--plan", "--json"], ["--json", "True", "without --target"]),
  ([DIGITS, "--process=0"], ["--process", "0", "without --coordinator or --distributed"]),
  ([DIGITS, "--devices=-3"], ["--devices", "-3", "0 or more"]),
  (["--config=mhd_digit"], ["did you mean mhd_digits"]),
  (["comparee"], ["comparee", "compare, configs, measure, report, reproduce, sweep"]),
  ([DIGITS, "--config.compare=separate,fedavg"], ["compare", "('separate', 'fedavg')"]),
  ([DIGITS, "--config.compare={'x': {'skew': 0.0}}"], ["compare.x.skew", "one split"]),
  ([DIGITS, "--config.labels=11"], ["labels", "11", "10"]),
  ([DIGITS, "--config.clients=(5,'mlp',{})"], ["clients", "how many"]),
  (
    ["--config=configs/mhd_imagenet.py"],
    ["tfds:imagenet2012", "tfds build", "--config=mhd_digits"],
  ),
  ([DIGITS, TWO_ARCHITECTURES, "--config.compare=('fedavg',)"], ["clients", "must be alike"]),
  (["--config=configs/mhd_cifar10.py", "--config.source=cifar:/nowhere"], ["source", "/nowhere"]),
]


@pytest.mark.parametrize("flags, words", BAD_FLAGS, ids=[" ".join(f) for f, _ in BAD_FLAGS])
def test_bad_input_ends_at_once_with_one_message(flags, words, commands, tmp_path):
  started = time.time()
  code, out, err = commands.run(*flags, f"--workdir={tmp_path / 'run'}")
  assert code == 2 and "Traceback" not in err, err
  assert all(word in err for word in words), err
  assert not (tmp_path / "run").exists()
  assert time.time() - started < 60


def test_a_folder_of_another_config_is_refused_from_the_command_line(commands, tmp_path):
  (tmp_path / "config.json").write_text(json.dumps({"config": {"seed": 7}}))
  code, _, err = commands.run(DIGITS, SMALL, "--config.compare=()", f"--workdir={tmp_path}")
  assert code == 2 and "another --workdir" in err and "Traceback" not in err
  assert [p.name for p in tmp_path.iterdir()] == ["config.json"]
