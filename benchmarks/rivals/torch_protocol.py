"""The contestants' side of a contest, for PyTorch; see `benchmarks/contest.py`."""

import os
import platform
import sys
import time

import torch
from channel import connect, peak_rss_bytes


def serve(prepare):
  """Answers the protocol until the input ends; `prepare` is spec -> a function that does a block.

  `compile_seconds` is the first block less the second, for forms that compile and read no cache.
  """
  spec, say = connect()

  def timed():
    began = time.perf_counter()
    block()
    if spec["device"] == "cuda":
      torch.cuda.synchronize()
    return time.perf_counter() - began

  torch.set_float32_matmul_precision("high")  # as JAX's default on GPUs
  torch.backends.cudnn.benchmark = True
  block = prepare(spec)
  first, second = timed(), timed()
  device = torch.cuda.get_device_name() if spec["device"] == "cuda" else "cpu"
  versions = {"torch": torch.__version__, "python (torch)": platform.python_version()}
  cached = os.environ.get("TORCHINDUCTOR_FORCE_DISABLE_CACHES") != "1"
  compiles = spec["form"] in ("compiled", "graphs") and not cached
  spent = {"compile_seconds": max(first - second, 0.0)} if compiles else {}
  say(ready=True, **spent, versions=versions, device=device)
  for _ in sys.stdin:
    say(seconds=timed())
  peak = {"peak_rss_bytes": peak_rss_bytes()}
  if spec["device"] == "cuda":
    peak["peak_device_bytes"] = torch.cuda.max_memory_allocated()
  say(**peak)
