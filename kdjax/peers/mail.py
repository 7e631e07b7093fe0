"""What a peer leaves for the others, and what it hears of them; nobody waits, unless told to."""

import collections
import logging
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from kdjax.peers.mailbox import Mailbox
from kdjax.peers.messages import Arrays, Kind, Refused, faulty
from kdjax.types import ConfigError


class Message(NamedTuple):
  """A message that passed every check."""

  round: int
  arrays: Arrays


class Mail:
  """One peer's side of a shared folder; counts what it left, took and refused."""

  def __init__(
    self,
    folder: str,
    own: tuple[int, ...],
    *,
    age: int,
    keep: int,
    wait_seconds: float,
    look_seconds: float,
    stop: Callable[[], bool] = lambda: False,
  ) -> None:
    """Touches nothing yet; see `open`.

    Args:
      folder: the shared one.
      own: numbers of the clients that train here.
      age: a message may be so many rounds older than the moment that it is wanted for.
      keep: so many rounds of own messages stay in the folder; 0: all.
      wait_seconds: > 0: wait for messages of exactly the round that wants them, up to so long.
      look_seconds: between two looks while waiting.
      stop: ends a wait.

    Raises:
      ConfigError: for invalid values.
    """
    for key, value in (("age", age), ("keep", keep), ("wait_seconds", wait_seconds)):
      if not value >= 0:
        raise ConfigError(f"peers.{key}", value, "must not be negative")
    if not look_seconds > 0:
      raise ConfigError("peers.look_seconds", look_seconds, "must be above 0")
    self.folder, self.own = folder, own
    self.age, self.keep, self.wait, self.look = age, keep, wait_seconds, look_seconds
    self.stop = stop
    self._counts: collections.Counter[str] = collections.Counter()
    self._refused: dict[tuple, object] = {}  # (kind, sender, round): the stamp of what was refused
    self._said: set[tuple] = set()

  def open(self, experiment: str, rounds: int) -> None:
    """Opens the folder for an experiment, known by its hash, of so many rounds.

    Raises:
      ConfigError: for a place that cannot be a folder.
    """
    self.box, self.rounds = Mailbox(self.folder, experiment), rounds

  def leave(self, kind: Kind, round: int, said: dict[int, Arrays]) -> None:
    """Leaves own clients' messages of a round.

    What the disk does not take, and what nobody would take in, is lost, and counted.
    """
    for sender, arrays in said.items():
      wrong = faulty(arrays, kind.check)
      if wrong:
        self._count("unsent")
        self._say(("unsent", sender), f"client {sender} has nothing fit to be sent: {wrong}")
        continue
      if round == 0 and self.box.rounds(kind, sender)[-1:] > [0]:
        text = f"client {sender} begins, and {self.folder} holds later messages of its own"
        self._say(("begun", sender), f"{text}: give every run a folder of its own")
      try:
        self._count("left_bytes", self.box.leave(kind, sender, round, arrays))
        self._count("left")
        if self.keep:
          self.box.tidy(kind, sender, round + 1 - self.keep)
      except OSError as error:
        self._count("unsent")
        self._say(("unsent", sender), f"client {sender} could not leave a message: {error}")

  def of_round(self, kind: Kind, senders: Iterable[int], round: int) -> dict[int, Message]:
    """What these clients said for this very round, of those whose message is there."""
    return self._counted(kind, senders, self._exactly(kind, senders, round))

  def newest(self, kind: Kind, senders: Iterable[int], round: int) -> dict[int, Message]:
    """The newest acceptable message of each client; while waiting is on, that of this very round.

    Acceptable are rounds from `age` before this one to the run's last: others may be ahead.
    """
    found = self._exactly(kind, senders, round) if self.wait else {}
    for sender in set(senders) - set(found):
      message = self._newest(kind, sender, round)
      if message:
        found[sender] = message
    return self._counted(kind, senders, found)

  def counts(self) -> dict[str, int]:
    """What was counted since the last call: left, taken, missing, refused by reason and sender."""
    found, self._counts = dict(self._counts), collections.Counter()
    return found

  def _exactly(self, kind, senders, round):
    """{sender: Message of this round}, after waiting as long as may be."""
    wanted, found, end = set(senders), {}, time.monotonic() + self.wait
    while True:
      for sender in sorted(wanted):
        gone_on = any(round < other < self.rounds for other in self.box.rounds(kind, sender))
        arrays = self._read(kind, sender, round)
        if arrays is not None:
          found[sender] = Message(round, arrays)
        if arrays is not None or gone_on:
          wanted.remove(sender)
      if not wanted or time.monotonic() >= end or self.stop():
        return found
      time.sleep(self.look)

  def _newest(self, kind, sender, round):
    """A client's newest acceptable Message, or None."""
    for other in reversed(self.box.rounds(kind, sender)):
      if other < round - self.age:
        self._refuse(kind, sender, other, "old")
        return None
      if other >= self.rounds:
        self._refuse(kind, sender, other, "future")
        continue
      arrays = self._read(kind, sender, other)
      if arrays is not None:
        return Message(other, arrays)
    return None

  def _read(self, kind, sender, round):
    """A message's arrays; None where it is not there or was refused."""
    stamp = self.box.stamp(kind, sender, round)
    if stamp is None or self._refused.get((kind.name, sender, round)) == stamp:
      return None
    try:
      return self.box.read(kind, sender, round)
    except Refused as refusal:
      self._refuse(kind, sender, round, str(refusal), stamp)
      return None

  def _refuse(self, kind, sender, round, reason, stamp="by its name"):
    if self._refused.get((kind.name, sender, round)) != stamp:
      self._refused[kind.name, sender, round] = stamp
      self._count(f"refused/{reason}/{sender}")
      text = f"refused a message of client {sender} ({kind.name}, round {round}): {reason}"
      self._say((reason, sender), f"{text}; further ones are only counted")

  def _counted(self, kind, senders, found):
    self._count("taken", len(found))
    self._count(f"taken_bytes/{kind.name}", sum(_nbytes(m) for m in found.values()))
    self._count("missing", len(set(senders)) - len(found))
    return found

  def _count(self, key, n=1):
    self._counts[key] += n

  def _say(self, what, text):
    if what not in self._said:
      self._said.add(what)
      logging.getLogger("kdjax").warning(text)


def _nbytes(message):
  return sum(x.nbytes for x in message.arrays.values())
