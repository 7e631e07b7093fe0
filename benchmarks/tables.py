"""Makes tables of timings, and inserts them into the documents."""

import dataclasses
import re
import statistics
from collections.abc import Callable

PEAK = "matrix multiplication"  # the contestant that measures the machine's peak


@dataclasses.dataclass(frozen=True)
class Column:
  """A heading, and the function that shows a row below it."""

  heading: str
  show: Callable  # (row, the contest's first row, its peak row or None) -> text


def step_seconds(row):
  """Median over blocks of the seconds of one step."""
  return statistics.median(row["seconds"]) / row["steps"]


def ratio(row, first):
  """The time of a step over that of the first contestant: a ratio of medians."""
  return step_seconds(row) / step_seconds(first)


def rate(row):
  """FLOPs per second, at the median."""
  return row["flops"] / step_seconds(row)


def _duration(seconds):
  for unit, factor in (("s", 1), ("ms", 1e3)):
    if seconds * factor >= 1:
      return f"{_digits(seconds * factor)} {unit}"
  return f"{_digits(seconds * 1e6)} us"


def _digits(x):
  """A number with three significant digits; numbers from 100 on in full."""
  if x >= 100:
    return f"{x:,.0f}"
  return f"{x:.3g}"


def _time(row, first, peak):
  each = [s / row["steps"] for s in row["seconds"]]
  low, high = _duration(min(each)), _duration(max(each))
  return f"{_duration(step_seconds(row))} ({low} .. {high})"


def _ratio(row, first, peak):
  return f"{ratio(row, first):.2f}" if comparable(row, first) else ""


def comparable(row, first):
  """Whether both rows were run, and neither is the peak."""
  return "seconds" in first and PEAK not in (row["name"], first["name"])


def _images(row, first, peak):
  return _digits(row["images"] / step_seconds(row)) if row["images"] else ""


def _rate(row, first, peak):
  return _digits(rate(row) / 1e9) if row["flops"] else ""


def _share(row, first, peak):
  if not row["flops"] or peak is None or "seconds" not in peak:
    return ""
  return f"{_digits(100 * rate(row) / rate(peak))} %"


def _flops(row, first, peak):
  return f"{row['flops']:.3g}" if row["flops"] else ""


def _flops_ratio(row, first, peak):
  known = row["flops"] and first["flops"] and comparable(row, first)
  return f"{row['flops'] / first['flops']:.2f}" if known else ""


def _overhead(row, first, peak):
  if not (row["flops"] and first["flops"] and comparable(row, first)):
    return ""
  return f"{ratio(row, first) * first['flops'] / row['flops']:.2f}"


def _seconds_of(key):
  return lambda row, first, peak: f"{row['facts'][key]:.1f}" if key in row["facts"] else ""


def mebibytes(heading, key):
  """A column of a fact that counts bytes."""

  def show(row, first, peak):
    return f"{row['facts'][key] / 2**20:,.0f}" if key in row["facts"] else ""

  return Column(heading, show)


def _scratch_ratio(row, first, peak):
  known = [r["facts"].get("scratch_bytes", 0) for r in (row, first) if "facts" in r]
  return f"{known[0] / known[1]:.2f}" if len(known) == 2 and all(known) else ""


TIME = Column("time of a step, median (lowest .. highest)", _time)
RATIO = Column("time / first", _ratio)
IMAGES = Column("images/s", _images)
FLOPS = Column("FLOPs of a step", _flops)
FLOPS_RATIO = Column("FLOPs / first", _flops_ratio)
OVERHEAD = Column("time / FLOPs", _overhead)
RATE = Column("GFLOP/s", _rate)
SHARE = Column("of peak", _share)
COMPILE = Column("compile s", _seconds_of("compile_seconds"))
SCRATCH = mebibytes("scratch MiB", "scratch_bytes")
SCRATCH_RATIO = Column("scratch / first", _scratch_ratio)
RESIDENT = mebibytes("peak MiB", "peak_rss_bytes")
DEVICE = mebibytes("device peak MiB", "peak_device_bytes")
STEP = (TIME, RATIO, IMAGES, FLOPS, RATE, SHARE, COMPILE, SCRATCH, SCRATCH_RATIO, RESIDENT)


def table(rows, columns):
  """The markdown table of a contest, one row per contestant; the first row is the reference."""
  first = rows[0]
  peak = next((row for row in rows if row["name"] == PEAK), None)
  lines = ["contestant", *(c.heading for c in columns)], ["---"] * (1 + len(columns))
  body = []
  for row in rows:
    if "error" in row:
      error = row["error"].replace("|", "/")
      cells = [f"not run: {error}"] + [""] * (len(columns) - 1)
    else:
      cells = [c.show(row, first, peak) for c in columns]
    body.append([row["name"], *cells])
  return "\n".join(f"| {' | '.join(line)} |" for line in (*lines, *body))


def section(result, columns, note):
  """A suite's part of the document: its note, and every contest with its provenance."""
  parts = [note]
  for name, contest in result["contests"].items():
    parts += [f"**{name}**; {provenance(contest)}", table(contest["rows"], columns)]
  return "\n\n".join(parts)


def provenance(contest):
  """One line on a contest: its runs, date, commit, machine and versions."""
  dirty = " with changes" if contest["dirty"] else ""
  parts = (
    f"{contest['runs']} runs, {contest['date']}, commit {contest['commit']}{dirty}",
    f"{contest['cpu']}, {contest['cores']} cores, load {contest['load']:.1f} before",
    versions(contest["rows"]),
  )
  return ", ".join(filter(None, parts))


def versions(rows):
  """The versions of all contestants, and the devices: 'jax 0.10.2, torch 2.13.0, ...'."""
  found = {}
  for row in rows:
    facts = row.get("facts", {})
    device = {"device": facts["device"]} if "device" in facts else {}
    found |= device | facts.get("versions", {})
  return ", ".join(f"{name} {version}" for name, version in sorted(found.items()))


def insert(document, suite, text):
  """The document with `text` between the suite's markers.

  Raises:
    ValueError: unless the document has exactly one pair of them.
  """
  start, end = f"<!-- {suite} -->", f"<!-- /{suite} -->"
  pattern = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
  if len(pattern.findall(document)) != 1:
    raise ValueError(f"needs one pair of markers {start} ... {end}")
  return pattern.sub(lambda _: f"{start}\n{text}\n{end}", document)
