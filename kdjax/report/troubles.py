"""What went another way than planned in a run and did not end it, in words."""

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from kdjax.report.table import RunRecord

MOST_NAMED = 4  # heads that are named one by one


def said(run: "RunRecord") -> list[str]:
  """Sentences: a changed length, faulty clients, collapsed heads, what was not taken in."""
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
  for one, after in itertools.pairwise(lengths):
    key = next(k for k in one if k != "from")
    if one["from"]:  # else nothing had been trained
      yield (
        f"From step {one['from']:,} on {run.name} had {key} = {after[key]:,} instead of "
        f"{one[key]:,}, and its learning rate followed the new length."
      )


def _faults(run: "RunRecord", summary: dict[str, Any]) -> Iterator[str]:
  lines = [line for line in run.metrics if line["phase"] == "fault"]
  known = [{**x, "step": int(x["since"])} for x in lines]
  found = summary.get("faults", known)
  if not found:
    return
  first, *others = found
  policy = run.record.get("config", {}).get("faults", {}).get("client", "")
  also = f", then {len(others)} more" if others else ""
  lost = f"; {sum(x['steps'] for x in found)} steps were not taken" if summary else ""
  who = f"client {first['client']:.0f}" if "client" in first else "the server"
  yield (
    f"In {run.name} {who} was not finite at step {first['step']}, the first one{also}{lost} "
    f"(faults.client={policy})."
  )


def _collapsed(run: "RunRecord", summary: dict[str, Any]) -> Iterator[str]:
  found = summary.get("collapsed", [_named(x) for x in run.metrics if x["phase"] == "collapse"])
  if not found:
    return
  steps = summary.get("steps")
  words = []
  for one in found[:MOST_NAMED]:
    who = "" if one["client"] is None else f"client {one['client']} "
    over = f" until {one['until']:,}" if steps and one["until"] < steps else ""
    words.append(f"{who}{one['head']}: class {one['class']} since step {one['since']:,}{over}")
  more = len(found) - MOST_NAMED
  also = f"; and {more} more" if more > 0 else ""
  count = f"{len(found)} heads" if len(found) > 1 else "a head"
  yield f"In {run.name} {count} said one class for everything: {'; '.join(words)}{also}."


def _named(line: dict[str, Any]) -> dict[str, Any]:
  """A line of the log as `summary.json` has it."""
  key = next(key for key in line if key.startswith("class/"))
  return {**line, "head": key.removeprefix("class/"), "class": line[key]}


def _refused(run: "RunRecord", summary: dict[str, Any]) -> Iterator[str]:
  refused = summary.get("refused", {})
  if refused:
    yield (
      f"In {run.name} {len(refused)} clients did not take in {sum(refused.values()):,} predictions "
      "of their teachers that were no distributions, or not finite."
    )


def _unreadable(run: "RunRecord", summary: dict[str, Any]) -> Iterator[str]:
  unreadable = summary.get("unreadable_images", 0)
  if unreadable:
    yield f"In {run.name} {unreadable:,} images could not be read (faults.images)."
