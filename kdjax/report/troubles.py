"""What went wrong in a run and did not end it, in words."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from kdjax.report.table import RunRecord


def said(run: "RunRecord") -> list[str]:
  """Sentences about clients whose numbers were not finite, and what they did not take in."""
  summary = run.summary or {}
  return [*_faults(run, summary), *_refused(run, summary), *_unreadable(run, summary)]


def _faults(run: "RunRecord", summary: dict[str, Any]) -> Iterator[str]:
  lines = [line for line in run.metrics if line["phase"] == "fault"]
  known = [{"client": int(x["client"]), "step": int(x["since"])} for x in lines]
  found = summary.get("faults", known)
  if not found:
    return
  first, *others = found
  policy = run.record.get("config", {}).get("faults", {}).get("client", "")
  also = f", then {len(others)} more" if others else ""
  lost = f"; {sum(x['steps'] for x in found)} steps were not taken" if summary else ""
  yield (
    f"In {run.name} client {first['client']} was not finite at step {first['step']}, the first "
    f"one{also}{lost} (faults.client={policy})."
  )


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
