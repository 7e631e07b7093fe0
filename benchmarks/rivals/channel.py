"""What a contestant says and hears, for any interpreter; see `benchmarks/contest.py`."""

import json
import os
import resource
import sys


def connect():
  """The spec of this contestant, and the function that writes its lines.

  Returns:
    (spec, say): `say(**line)` answers with one JSON line; whatever else is printed from now on goes
    to the standard error, for no library's word is an answer.
  """
  out = os.fdopen(os.dup(1), "w")
  os.dup2(2, 1)

  def say(**line):
    out.write(json.dumps(line) + "\n")
    out.flush()

  return json.loads(sys.argv[1]), say


def peak_rss_bytes(who=resource.RUSAGE_SELF):
  """The largest resident memory of this process so far, or of the children that it waited for."""
  return resource.getrusage(who).ru_maxrss * 1024
