"""`python -m kdjax.data.prepare SOURCE --out=DIR --size=256` writes a resized copy of a source.

`--config.source=records:DIR` reads it. Stop it at any point: the same command goes on. A shard is
there whole or not at all; on a finished copy, the command compares every shard with its checksum
and writes damaged ones anew. Exit codes: 0 done, 42 stopped, 2 bad input.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import io
import json
import multiprocessing
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich import progress
from rich.console import Console

from kdjax.core import files
from kdjax.core.machine import cores
from kdjax.data import images, records, sources, worker
from kdjax.data.encoded import Encoded
from kdjax.data.example_set import ExampleSet, is_table
from kdjax.ending import BAD_INPUT, DONE, STOPPED
from kdjax.types import ConfigError

FORMATS = ("raw", "jpeg")
CHUNK = 64  # images that are held in memory at a time
MOST_SHARDS = 256  # unless told otherwise: every reader keeps every shard open
BLOCK = 2**20  # bytes


@dataclasses.dataclass(frozen=True)
class Job:
  """What decides every byte of a copy."""

  source: str
  size: int  # height and width
  channels: int  # of images that are decoded; arrays keep theirs
  format: str  # one of FORMATS
  quality: int  # of JPEG
  decoder: str  # one of images.DECODERS
  splits: tuple[str, ...]  # train, or train and test


@functools.lru_cache(maxsize=1)
def open_source(job: Job) -> tuple[dict[str, ExampleSet], int]:
  """{split: ExampleSet} and the number of classes; once a process."""
  encoded = sources.is_encoded(job.source)
  facts = {"resize": encoded, "grey": encoded and job.channels == 1, "decoder": job.decoder}
  info = {"image": (job.size, job.size, job.channels), **facts}
  source = sources.opened(job.source, info=info, test="test" in job.splits)
  if is_table(source.train.shape):
    raise ConfigError("SOURCE", job.source, "is a table: there are no images to copy")
  return {split: getattr(source, split) for split in job.splits}, source.classes


def check_job(job: Job, workers: int, shards: int) -> None:
  """Raises ConfigError for options that cannot work."""
  for key, value, least, most in (
    ("--size", job.size, 1, 2**16 - 1),
    ("--quality", job.quality, 1, 100),
    ("--workers", workers, 1, 2**16),
    ("--shards", shards, 0, 2**16),
  ):
    if not least <= value <= most:
      raise ConfigError(key, value, f"must lie in {least}..{most}")
  if job.source.startswith("records:"):
    raise ConfigError("SOURCE", job.source, "is a copy itself: name what it was made from")
  images.check_decoder(job.decoder)


def plan(job: Job, shards: int) -> dict[str, Any]:
  """The index of a copy of which nothing is written yet."""
  sets, classes = open_source(job)
  shape = next(iter(sets.values())).shape
  index = {"version": records.VERSION, **dataclasses.asdict(job), "splits": {}}
  index |= {"image": [job.size, job.size, shape[2]], "classes": int(classes)}
  for split, one in sets.items():
    n = len(one.labels)
    count = min(n, shards or min(MOST_SHARDS, -(-n // 1024)))
    bounds = np.linspace(0, n, count + 1).astype(int).tolist()
    index["splits"][split] = {
      "examples": n,
      "labels_sha256": records.labels_sha256(one.labels, one.strata).hexdigest(),
      "shards": [
        {
          "file": f"{split}-{i:05}-of-{count:05}.array_record",
          "start": bounds[i],
          "examples": bounds[i + 1] - bounds[i],
          "bytes": None,
          "sha256": None,
        }
        for i in range(count)
      ],
    }
  return index


def begun(out: Path, fresh: dict[str, Any], name: str) -> dict[str, Any]:
  """The index to go on with: that in `out`, where it is one of the same copy.

  Raises:
    ConfigError: for a copy of another source or with other options; names what differs.
  """
  old = records.read_index(name, out)
  if old is None:
    return fresh
  shards = lambda index: {s: len(v["shards"]) for s, v in index["splits"].items()}
  labels = lambda index: {s: v["labels_sha256"] for s, v in index["splits"].items()}
  facts = lambda index: {
    **{key: value for key, value in index.items() if key != "splits"},
    "shards": shards(index),
    "labels": labels(index),
  }
  before, now = facts(old), facts(json.loads(json.dumps(fresh)))
  for key in now:
    if before.get(key) != now[key]:
      hint = f"holds a copy with {key} = {before.get(key)!r}, not {now[key]!r}; use another folder"
      raise ConfigError("--out", str(out), hint)
  return old


def prepare(job: Job, out: Path, *, workers: int, shards: int, console: Console) -> None:
  """Writes what is missing of a copy.

  Args:
    job: Job.
    out: Path of the folder.
    workers: processes.
    shards: files of each split; 0: one for 1,024 images, `MOST_SHARDS` at most.
    console: rich Console for the progress bar.

  Raises:
    ConfigError: for whatever cannot work, an unreadable image included.
  """
  check_job(job, workers, shards)
  open_source.cache_clear()  # the files may have changed since
  sets, _ = open_source(job)
  for one in sets.values():
    if isinstance(one.read, Encoded):
      one.read.check(len(one.labels))
  fresh = plan(job, shards)
  out.mkdir(parents=True, exist_ok=True)
  with locked(out):
    index = begun(out, fresh, str(out))
    for stale in out.glob(".*.tmp"):
      stale.unlink()
    for split, one in sets.items():
      records.write_labels(out, split, one.labels, one.strata)
    records.write_index(out, index)
    entries = {split: v["shards"] for split, v in index["splits"].items()}
    tasks = [(split, i, e) for split, some in entries.items() for i, e in enumerate(some)]
    with bar(console) as shown:
      line = shown.add_task(f"{job.source} to {out}", total=sum(e["examples"] for *_, e in tasks))
      for split, i, entry in finished(job, out, tasks, workers):
        if entry != entries[split][i]:
          entries[split][i] = entry
          records.write_index(out, index)
        shown.advance(line, entry["examples"])


def shard(job: Job, out: Path, split: str, entry: dict[str, Any]) -> dict[str, Any]:
  """Writes a shard unless it is there and undamaged; its entry in the index."""
  path = out / entry["file"]
  if records.is_there(out, entry) and file_sha256(path) == entry["sha256"]:
    return entry
  from array_record.python.array_record_module import ArrayRecordWriter

  one = open_source(job)[0][split]
  with files.whole(path) as part:
    writer = ArrayRecordWriter(str(part), "group_size:1,uncompressed")
    end = entry["start"] + entry["examples"]
    for start in range(entry["start"], end, CHUNK):
      pixels = one.fetch(np.arange(start, min(start + CHUNK, end)))
      for image in images.resized(pixels, (job.size, job.size)):
        writer.write(image.tobytes() if job.format == "raw" else jpeg(image, job.quality))
    writer.close()
    facts = {"bytes": part.stat().st_size, "sha256": file_sha256(part)}
  return entry | facts


def jpeg(image: np.ndarray, quality: int) -> bytes:
  """The bytes of an image u8[h, w, c]."""
  file = io.BytesIO()
  Image.fromarray(image if image.shape[2] == 3 else image[..., 0]).save(
    file, "JPEG", quality=quality
  )
  return file.getvalue()


def file_sha256(path: Path) -> str:
  """A file's checksum."""
  digest = hashlib.sha256()
  with open(path, "rb") as file:
    while block := file.read(BLOCK):
      digest.update(block)
  return digest.hexdigest()


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
  """Holds a folder for this process, as long as it lives."""
  with open(out / ".lock", "w") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
      raise ConfigError("--out", str(out), "another process is writing it") from None
    yield


def finished(
  job: Job, out: Path, tasks: Sequence[tuple[str, int, dict[str, Any]]], workers: int
) -> Iterator[tuple[str, int, dict[str, Any]]]:
  """Yields (split, shard's number, its entry) of every task as it is done."""
  if workers == 1:
    yield from ((split, i, shard(job, out, split, entry)) for split, i, entry in tasks)
    return
  context = multiprocessing.get_context("spawn")
  pool = concurrent.futures.ProcessPoolExecutor(workers, context, initializer=worker.begin)
  try:
    running = {pool.submit(shard, job, out, split, e): (split, i) for split, i, e in tasks}
    for future in concurrent.futures.as_completed(list(running)):
      yield *running.pop(future), future.result()
  except KeyboardInterrupt:  # what is being written already is finished, and counts
    pool.shutdown(wait=True, cancel_futures=True)
    whole = (f for f in running if not f.cancelled() and f.exception() is None)
    yield from ((*running[f], f.result()) for f in whole)
    raise
  finally:
    pool.shutdown(wait=True, cancel_futures=True)


def bar(console: Console) -> progress.Progress:
  """The progress bar."""
  return progress.Progress(
    progress.TextColumn("{task.description}", markup=False),
    progress.BarColumn(),
    progress.MofNCompleteColumn(),
    progress.TimeRemainingColumn(),
    console=console,
  )


def main(arguments: list[str] | None = None) -> int:
  """Runs what the command line asks for; returns the exit code."""
  parser = argparse.ArgumentParser(
    prog="python -m kdjax.data.prepare", description=__doc__.partition("\n\n")[0]
  )
  add = parser.add_argument
  add("source", help="folder:DIR, tfds:NAME, npz:FILE, ...: what --config.source takes")
  add("--out", type=Path, required=True, help="the folder of the copy")
  add("--size", type=int, default=256, help="images are scaled to cover SIZE x SIZE and cropped")
  add("--channels", type=int, default=3, choices=(1, 3), help="of images that are decoded")
  add("--format", default="raw", choices=FORMATS, help="raw: pixels, the fastest to read")
  add("--quality", type=int, default=95, help="of JPEG")
  add("--decoder", default="pillow", choices=images.DECODERS, help="opencv: faster, rougher")
  add("--workers", type=int, default=cores(), help="processes")
  add("--shards", type=int, default=0, help="files a split; 0: one for 1,024 images, 256 at most")
  add("--train-only", action="store_true", help="for a source without test images")
  given = parser.parse_args(arguments)
  splits = ("train",) if given.train_only else ("train", "test")
  job = Job(
    given.source, given.size, given.channels, given.format, given.quality, given.decoder, splits
  )
  console = Console(stderr=True)
  try:
    prepare(job, given.out, workers=given.workers, shards=given.shards, console=console)
  except ConfigError as error:
    print(f"kdjax: {error}", file=sys.stderr)
    return BAD_INPUT
  except KeyboardInterrupt:
    print("Stopped; the same command goes on.", file=sys.stderr)
    return STOPPED
  (channels,) = {one.shape[2] for one in open_source(job)[0].values()}
  shape = (job.size, job.size, channels)
  print(f"--config.source=records:{given.out} --config.source_info.image='{shape}'")
  return DONE


if __name__ == "__main__":
  signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's way to say Ctrl-C
  sys.exit(main())
