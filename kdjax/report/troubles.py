"""Problems of a run that did not stop it, in words."""

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from kdjax.report.table import RunRecord

MOST_NAMED = 4  # heads that are named one by one


def said(run: "RunRecord") -> list[str]:
  """Sentences on a changed length, faults, collapsed heads, refused predictions, lost images."""
  summary = run.summary or {}
  return [
    *_extended(run),
    *_faults(run, summary),
    *_collapsed(run, summary),
    *_refused(run, summary),
    *_unreadable(run, summary),
  ]


def _extended(run: "RunRecord") -> Iterator[str]:
  lengths = [*run.record.get("extended", []), run.record.get("config", {})]
  for before, after in itertools.pairwise(lengths):
    key = next(k for k in before if k != "from")
    if before["from"]:  # 0: nothing had been trained with the earlier length
      yield (
        f"From step {before['from']:,} on {run.name} had {key} = {after[key]:,} instead of "
        f"{before[key]:,}, and its learning rate followed the new length."
      )


def _faults(run: "RunRecord", summary: dict[str, Any]) -> Iterator[str]:
  lines = [line for line in run.metrics if line["phase"] == "fault"]
  logged = [{**line, "step": int(line["since"])} for line in lines]
  faults = summary.get("faults", logged)
  if not faults:
    return
  first, *others = faults
  policy = run.record.get("config", {}).get("faults", {}).get("client", "")
  also = f", then {len(others)} more" if others else ""
  skipped = f"; {sum(fault['steps'] for fault in faults)} steps were skipped" if summary else ""
  who = f"client {first['client']:.0f}" if "client" in first else "the server"
  kind = "client" if "client" in first else "fault"
  yield (
    f"In {run.name} {who} had a loss, gradient or statistic that was not finite at step "
    f"{first['step']}, the first such {kind}{also}{skipped} (faults.client={policy})."
  )


def _collapsed(run: "RunRecord", summary: dict[str, Any]) -> Iterator[str]:
  logged = [_named(line) for line in run.metrics if line["phase"] == "collapse"]
  heads = summary.get("collapsed", logged)
  if not heads:
    return
  steps = summary.get("steps")
  words = []
  for head in heads[:MOST_NAMED]:
    who = "" if head["client"] is None else f"client {head['client']} "
    over = f" until {head['until']:,}" if steps and head["until"] < steps else ""
    words.append(f"{who}{head['head']}: class {head['class']} since step {head['since']:,}{over}")
  more = len(heads) - MOST_NAMED
  also = f"; and {more} more" if more > 0 else ""
  count = f"{len(heads)} heads" if len(heads) > 1 else "a head"
  yield f"In {run.name} {count} predicted one class for everything: {'; '.join(words)}{also}."


def _named(line: dict[str, Any]) -> dict[str, Any]:
  """A line of the log, in the form of `summary.json`."""
  key = next(key for key in line if key.startswith("class/"))
  return {**line, "head": key.removeprefix("class/"), "class": line[key]}


def _refused(run: "RunRecord", summary: dict[str, Any]) -> Iterator[str]:
  refused = summary.get("refused", {})
  if refused:
    yield (
      f"In {run.name} {len(refused)} clients refused {sum(refused.values()):,} predictions of "
      "their teachers that were not finite or not distributions."
    )


def _unreadable(run: "RunRecord", summary: dict[str, Any]) -> Iterator[str]:
  unreadable = summary.get("unreadable_images", 0)
  if unreadable:
    yield f"In {run.name} {unreadable:,} images could not be read (faults.images)."
