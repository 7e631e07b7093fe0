"""Messages, damaged, forged or odd: none ends a client, none is taken that fails a check."""

import hashlib
import json
import math
import os
import pickle
import random
import shutil
import struct
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from campaign import HELD

from kdjax.peers import Kind, Mail, messages

ME, SENDER, ROUND, AGE, ROUNDS = 0, 1, 5, 3, 10
EXPERIMENT = "ab" * 32
CLASSES = 4
DENSE = {"p": ((2, 3, 2, CLASSES), "float64"), "xi": ((2, 3, 5), "float64")}
FEW = {"p": ((2, 3, 2, 2), "float32"), "index": ((2, 3, 2, 2), "int32")}
FEW |= {"xi": ((2, 3, 0), "float32")}
KINDS = {
  "checkpoints": Kind("checkpoints", lambda k: {"weights": ((37,), "float64")}),
  "logits": Kind("logits", lambda k: {"logits": ((6, CLASSES), "float32")}),
  "dense": Kind("predictions", lambda k: DENSE, lambda a: messages.probabilities(a["p"])),
  "largest": Kind(
    "predictions", lambda k: FEW, lambda a: messages.largest(a["p"], a["index"], CLASSES)
  ),
}


def valid(name, rng):
  """Arrays of an honest message of a kind."""
  noise = np.random.default_rng(rng.getrandbits(32))
  arrays = {
    key: noise.normal(size=shape).astype(dtype)
    for key, (shape, dtype) in KINDS[name].shapes(SENDER).items()
  }
  if "p" in arrays:
    p = noise.dirichlet(np.ones(CLASSES), size=arrays["p"].shape[:-1])
    index = np.argsort(-p, -1)[..., : arrays["p"].shape[-1]].astype(np.int32)
    if "index" in arrays:
      arrays["index"] = index
      p = np.take_along_axis(p, index, -1)
    arrays["p"] = p.astype(arrays["p"].dtype)
  return arrays


def header_of(kind, sender=SENDER, round=ROUND, experiment=EXPERIMENT):
  shapes = [[n, list(s), d] for n, (s, d) in kind.shapes(SENDER).items()]
  common = {"version": 1, "kind": kind.name, "sender": sender, "round": round}
  return common | {"experiment": experiment, "arrays": shapes}


def payload_of(arrays):
  return b"".join(x.tobytes() for x in arrays.values())


def sealed(header, payload):
  """A header with the digest that fits, written out by hand."""
  text = json.dumps(header, sort_keys=True).encode()
  return header | {"digest": hashlib.sha256(text + payload).hexdigest()}


def file_of(header, payload):
  return json.dumps(header).encode()[:2047].ljust(2047) + b"\n" + payload


# Ways to harm a message: (rng, name, place) writes something at or beside `place`.


def honest(rng, name, place):
  kind, arrays = KINDS[name], valid(name, rng)
  payload = payload_of(arrays)
  place.write_bytes(file_of(sealed(header_of(kind), payload), payload))


def flip_bits(rng, name, place):
  honest(rng, name, place)
  data = bytearray(place.read_bytes())
  for _ in range(rng.choice((1, 1, 2, 8))):
    at = rng.randrange(len(data) if rng.random() < 0.5 else 600)
    data[at] ^= 1 << rng.randrange(8)
  place.write_bytes(data)


def overwrite(rng, name, place):
  honest(rng, name, place)
  data = bytearray(place.read_bytes())
  at = rng.randrange(len(data))
  some = rng.randbytes(min(rng.randrange(1, 200), len(data) - at))
  data[at : at + len(some)] = some
  place.write_bytes(data)


def cut(rng, name, place):
  honest(rng, name, place)
  os.truncate(place, rng.randrange(place.stat().st_size))


def extend(rng, name, place):
  honest(rng, name, place)
  with place.open("ab") as file:
    file.write(rng.randbytes(rng.randrange(1, 5000)))


def empty(rng, name, place):
  place.touch()


def gigantic(rng, name, place):
  place.touch()
  os.truncate(place, 10 ** rng.randrange(9, 13))  # sparse: no room is taken


ODD = (
  *(None, True, False, 0, -1, 1, 1.0, 5.0, 2**31, 2**63, 10**40, 1e400, -1e400, math.nan, ""),
  *("a", "5", "predictions", "é\u0000", "\ud800", "x" * 900, [], {}, [[]], [1] * 50),
  *({"a": 1}, [["weights", [10**12], "float64"]], [["weights", [37.0], "float64"]]),
  *([["weights", [-37], "float64"]], [["p", [2, 3, 2, 4], "object"]], "ab" * 31, "AB" * 32),
)


def odd_field(rng, name, place):
  header, payload = header_of(KINDS[name]), payload_of(valid(name, rng))
  header[rng.choice(list(header))] = rng.choice(ODD)
  header = sealed(header, payload)
  if rng.random() < 0.2:
    header["digest"] = rng.choice(ODD)
  place.write_bytes(file_of(header, payload))


def other_keys(rng, name, place):
  header, payload = header_of(KINDS[name]), payload_of(valid(name, rng))
  what = rng.choice(("less", "more", "nothing", "unsealed"))
  if what == "less":
    del header[rng.choice(list(header))]
  if what == "more":
    header[rng.choice(("code", "", "digests", "Round", "x" * 100))] = rng.choice(ODD)
  header = header if what == "unsealed" else sealed({} if what == "nothing" else header, payload)
  place.write_bytes(file_of(header, payload))


def twice(rng, name, place):
  header, payload = sealed(header_of(KINDS[name]), b""), payload_of(valid(name, rng))
  header = sealed(header_of(KINDS[name]), payload)
  key = rng.choice(list(header))
  again = json.dumps({key: rng.choice((header[key], *ODD[:10]))})[1:-1]
  text = json.dumps(header)
  text = f"{text[:-1]}, {again}}}" if rng.random() < 0.5 else f"{{{again}, {text[1:]}"
  place.write_bytes(text.encode().ljust(2047) + b"\n" + payload)


def odd_text(rng, name, place):
  payload = payload_of(valid(name, rng))
  text = rng.choice(
    (b"[" * 2047, b'{"a":' * 400, b"[" * 1000 + b"]" * 1000, b"1e400", b"9" * 2047, b"NaN", b"null")
    + (b"-Infinity", b'"\\ud800"', b"\xff\xfe" * 900, b"\x00" * 2047, b"{}", b'"', b"[]", b"true")
    + (b"\xef\xbb\xbf{}", b"{" * 2047, b'{"version":1,', b"\r\n\t ", rng.randbytes(2047))
  )
  place.write_bytes(text.ljust(2047) + b"\n" + payload)


def odd_numbers(rng, name, place):
  """Numbers that cannot be, under the digest that fits."""
  arrays = valid(name, rng)
  most = [k for k in ("p", "index") if k in arrays and rng.random() < 0.7]
  key = rng.choice(most or [k for k, x in arrays.items() if x.size])
  flat = arrays[key].reshape(-1)
  at = rng.randrange(flat.size)
  if key == "index":
    flat[at] = rng.choice((-1, CLASSES, CLASSES + 1, 2**31 - 1, -(2**31), flat[at - 1], 0))
  else:
    values = (math.nan, math.inf, -math.inf, -0.25, 0.5, 2.0, 1.1, -1e-9, 3e38, 0.0, -0.0, 1e-40)
    with np.errstate(all="ignore"):
      flat[at] = rng.choice(values)
      if rng.random() < 0.3:
        flat *= rng.choice((0.0, 0.5, 0.99, 1.01, 2.0, -1.0, np.finfo(flat.dtype).max))
  payload = payload_of(arrays)
  place.write_bytes(file_of(sealed(header_of(KINDS[name]), payload), payload))


def other_sender(rng, name, place):
  """Another's message, or one of mine, in this sender's folder."""
  payload = payload_of(valid(name, rng))
  header = header_of(KINDS[name], sender=rng.choice((ME, 2, 3, 99, -1)))
  place.write_bytes(file_of(sealed(header, payload), payload))


def other_round(rng, name, place):
  """Of the future, too old, in time; or another round than the file's name says."""
  payload, kind = payload_of(valid(name, rng)), KINDS[name]
  round = rng.choice((0, 1, 2, 3, 4, 6, 9, 10, 11, 10**6, 10**8))
  said = round if rng.random() < 0.6 else rng.choice((ROUND, 0, round + 1))
  place = place.with_name(f"{round}.msg") if rng.random() < 0.8 else place
  place.write_bytes(file_of(sealed(header_of(kind, round=said), payload), payload))


def other_experiment(rng, name, place):
  payload = payload_of(valid(name, rng))
  header = header_of(KINDS[name], experiment=rng.choice(("cd" * 32, "", EXPERIMENT[:-1] + "c")))
  place.write_bytes(file_of(sealed(header, payload), payload))


def other_kind(rng, name, place):
  """Honest, but of a kind that was not asked for."""
  honest(rng, rng.choice([n for n in KINDS if n != name]), place)


def no_file(rng, name, place):
  kind = rng.choice(("folder", "full folder", "fifo", "dangling", "loop", "zero", "null", "mine"))
  if kind == "folder":
    place.mkdir()
  elif kind == "full folder":
    (place / "x").mkdir(parents=True)
  elif kind == "fifo":
    os.mkfifo(place)  # whoever opened it would wait for ever
  elif kind == "mine":  # a link to an honest message elsewhere: what it holds is what counts
    honest(rng, name, place.parent / "elsewhere")
    place.symlink_to("elsewhere")
  else:
    ends = {"dangling": "nowhere", "loop": place.name, "zero": "/dev/zero", "null": "/dev/null"}
    place.symlink_to(ends[kind])


def odd_name(rng, name, place):
  names = ("05.msg", "5.msg.bak", "-1.msg", "５.msg", "9" * 30 + ".msg", ".5.msg.1.tmp", "5.MSG")
  honest(rng, name, place.with_name(rng.choice(names)))


class Bomb:
  """Unpickled, it leaves a trace."""

  def __init__(self, trace):
    self.trace = trace

  def __reduce__(self):
    return Path.touch, (self.trace,)


def pickled(rng, name, place):
  bomb = pickle.dumps(Bomb(place.parent / "exploded"), protocol=rng.randrange(6))
  honest(rng, name, place)
  size = place.stat().st_size
  data = bytearray(place.read_bytes() if rng.random() < 0.5 else size)
  at = rng.choice((0, 2048))
  data[at : at + len(bomb)] = bomb
  place.write_bytes(data[:size])


HARMS = (honest, flip_bits, overwrite, cut, extend, empty, gigantic, odd_field, other_keys, twice)
HARMS += (
  odd_text,
  odd_numbers,
  odd_numbers,
  odd_numbers,
  other_sender,
  other_round,
  other_experiment,
  other_kind,
  no_file,
)
HARMS += (odd_name, pickled)


def good(place, name, round):
  """Whether a message may be taken, by plain Python: the same checks, written a second time."""
  kind = KINDS[name]
  specs = kind.shapes(SENDER)
  letters = {"float32": ("f", 4), "float64": ("d", 8), "int32": ("i", 4)}
  size = 2048 + sum(math.prod(s) * letters[d][1] for s, d in specs.values())
  if not place.is_file() or place.stat().st_size != size:
    return False
  data = place.read_bytes()
  try:
    pairs = json.loads(data[:2048].decode("utf-8"), object_pairs_hook=list)
    header = dict(pairs)
  except (ValueError, TypeError, RecursionError):
    return False
  plain = {"version": 1, "kind": kind.name, "sender": SENDER, "round": round}
  if len(pairs) != 7 or set(header) != {*plain, "experiment", "arrays", "digest"}:
    return False
  if any(type(header[k]) is not type(v) or header[k] != v for k, v in plain.items()):
    return False
  arrays = [[n, list(s), d] for n, (s, d) in specs.items()]
  if header["experiment"] != EXPERIMENT or repr(header["arrays"]) != repr(arrays):
    return False
  expected = plain | {"experiment": EXPERIMENT, "arrays": arrays}
  if sealed(expected, data[2048:])["digest"] != header["digest"]:
    return False
  at, numbers = 2048, {}
  for key, (shape, dtype) in specs.items():
    letter, width = letters[dtype]
    count = math.prod(shape)
    numbers[key] = struct.unpack_from(f"<{count}{letter}", data, at)
    at += count * width
  return all(math.isfinite(x) for xs in numbers.values() for x in xs) and likely(numbers, specs)


def likely(numbers, specs):
  """Whether numbers named p, and those named index, can be probabilities and their classes."""
  if "p" not in numbers:
    return True
  k = specs["p"][0][-1]
  rows = [numbers["p"][i : i + k] for i in range(0, len(numbers["p"]), k)]
  if not all(0 <= x <= 1.0001 for x in numbers["p"]):
    return False
  sums = [math.fsum(row) for row in rows]
  if max(sums) > 1.0001:
    return False
  if "index" not in numbers:
    return min(sums) >= 0.9999
  indices = [numbers["index"][i : i + k] for i in range(0, len(numbers["index"]), k)]
  return all(len(set(row)) == k and set(row) <= set(range(CLASSES)) for row in indices)


def mail_in(folder):
  mail = Mail(str(folder), (ME,), age=AGE, keep=0, wait_seconds=0.0, look_seconds=0.1)
  mail.open(EXPERIMENT, ROUNDS)
  return mail


def asked(mail, name):
  """What the client takes of the sender: a Message or None."""
  ask = mail.newest if name == "checkpoints" else mail.of_round
  return ask(KINDS[name], [SENDER], ROUND).get(SENDER)


def acceptable(folder, name):
  """The rounds in the sender's folder that may be taken."""
  window = range(ROUND - AGE, ROUNDS) if name == "checkpoints" else (ROUND,)
  return [r for r in window if good(folder / f"{r}.msg", name, r)]


def test_no_message_ends_a_client_and_none_that_breaks_a_check_is_taken(campaign, tmp_path):
  seen, tried = set(), []
  trials = campaign.trials(500, 10_000)

  def attempt(trial):
    tried.append(trial)
    rng = random.Random(trial)
    harm, name = HARMS[trial % len(HARMS)], rng.choice(list(KINDS))
    place = tmp_path / str(trial) / KINDS[name].name / str(SENDER) / f"{ROUND}.msg"
    place.parent.mkdir(parents=True)
    harm(rng, name, place)
    mail = mail_in(tmp_path / str(trial))
    try:
      taken = asked(mail, name)
    except Exception as error:  # what must never be
      return f"{harm.__name__}: {type(error).__name__}: {error}"
    counts, may = mail.counts(), acceptable(place.parent, name)
    refusals = [key for key in counts if key.startswith("refused/")]
    seen.update(key.split("/")[1] for key in refusals)
    if (place.parent / "exploded").exists():
      return f"{harm.__name__}: unpickled"
    shutil.rmtree(tmp_path / str(trial))
    if taken is not None:
      return HELD if taken.round == max(may, default=-1) else f"{harm.__name__}: taken"
    if may:
      return f"{harm.__name__}: a good one was refused: {refusals}"
    silent = harm in (odd_name, other_round) or (harm is no_file and not refusals)
    return HELD if refusals or silent else f"{harm.__name__}: refused without a reason"

  campaign.run("messages", trials, attempt)
  reasons = {"size", "header", "digest", "version", "kind", "sender", "round", "experiment"}
  reasons |= {"arrays", "finite", "negative", "sum", "index", "old", "future"}
  assert seen >= reasons or len(tried) < trials  # unless some were tried before


@pytest.mark.parametrize(
  "change, reason",
  [
    (dict(sender=2), "sender"),
    (dict(sender=ME), "sender"),
    (dict(sender=True), "sender"),
    (dict(round=6), "round"),
    (dict(round=5.0), "round"),
    (dict(experiment="cd" * 32), "experiment"),
    (dict(kind="logits"), "kind"),
    (dict(version=2), "version"),
    (dict(arrays=[["weights", [37], "float32"]]), "arrays"),
    (dict(arrays=[["weights", [1, 37], "float64"]]), "arrays"),
    (dict(more=1), "digest"),
  ],
)
def test_a_forged_header_is_refused_by_name(tmp_path, change, reason):
  kind, payload = KINDS["checkpoints"], payload_of(valid("checkpoints", random.Random(0)))
  place = tmp_path / "checkpoints" / "1" / "5.msg"
  place.parent.mkdir(parents=True)
  place.write_bytes(file_of(sealed(header_of(kind) | change, payload), payload))
  mail = mail_in(tmp_path)
  assert asked(mail, "checkpoints") is None
  assert mail.counts()[f"refused/{reason}/1"] == 1


@pytest.mark.parametrize("round, reason", [(1, "old"), (2, ""), (5, ""), (9, ""), (10, "future")])
def test_snapshots_are_taken_from_the_age_that_is_allowed_to_the_runs_end(tmp_path, round, reason):
  arrays = valid("checkpoints", random.Random(0))
  mail = mail_in(tmp_path)
  mail.leave(KINDS["checkpoints"], round, {SENDER: arrays})
  found = asked(mail, "checkpoints")
  if reason:
    assert found is None and mail.counts()[f"refused/{reason}/1"] == 1
  else:
    assert found.round == round
    np.testing.assert_array_equal(found.arrays["weights"], arrays["weights"])


@pytest.mark.parametrize(
  "p, reason",
  [
    ([0.25, 0.75], ""),
    ([0.25, 0.74], "sum"),
    ([0.5, 0.51], "sum"),
    ([1.5, -0.5], "negative"),
    ([1.0, 0.0], ""),
  ],
)
def test_probabilities_sum_to_one(p, reason):
  assert messages.probabilities(np.float32([[0.5, 0.5], p])) == reason


@pytest.mark.parametrize(
  "p, index, reason",
  [
    ([0.5, 0.25], [3, 0], ""),
    ([0.5, 0.75], [3, 0], "sum"),
    ([0.5, -0.25], [3, 0], "negative"),
    ([0.5, 0.25], [4, 0], "index"),
    ([0.5, 0.25], [-1, 0], "index"),
    ([0.5, 0.25], [2, 2], "index"),
  ],
)
def test_the_largest_probabilities_belong_to_different_classes(p, index, reason):
  assert messages.largest(np.float32([p]), np.int32([index]), 4) == reason


def test_a_refused_message_is_read_and_counted_once_until_it_changes(tmp_path, caplog):
  place = tmp_path / "logits" / "1" / "5.msg"
  place.parent.mkdir(parents=True)
  place.write_bytes(b"")
  mail = mail_in(tmp_path)
  for _ in range(3):
    assert asked(mail, "logits") is None
  assert mail.counts() == {
    "refused/size/1": 1, "taken": 0, "taken_bytes/logits": 0, "missing": 3
  }  # fmt: skip
  assert [r.message.split(":")[0] for r in caplog.records] == [
    "refused a message of client 1 (logits, round 5)"
  ]
  mail.leave(KINDS["logits"], ROUND, {SENDER: valid("logits", random.Random(0))})
  assert asked(mail, "logits").round == ROUND


def test_a_folder_that_takes_nothing_ends_nobody(tmp_path, caplog):
  """The disk is full, or gone: what cannot be left is counted, and said once."""
  (tmp_path / "logits").touch()  # where its folder would be
  mail = mail_in(tmp_path)
  for round in range(3):
    mail.leave(KINDS["logits"], round, {ME: valid("logits", random.Random(0))})
    assert asked(mail, "logits") is None
  counts = mail.counts()
  assert (counts["unsent"], counts["missing"]) == (3, 3) and "left" not in counts
  assert len(caplog.records) == 1 and "could not leave a message" in caplog.text


def test_a_message_that_cannot_be_finished_leaves_nothing(tmp_path, monkeypatch):
  mail, kind = mail_in(tmp_path), KINDS["logits"]
  mail.leave(kind, 0, {ME: valid("logits", random.Random(0))})
  before = (tmp_path / "logits/0/0.msg").read_bytes()

  def full(self, data):
    with open(self, "wb") as file:
      file.write(data[:100])
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(type(mail.box.folder), "write_bytes", full)
  mail.leave(kind, 0, {ME: valid("logits", random.Random(1))})
  assert mail.counts()["unsent"] == 1
  assert [p.name for p in (tmp_path / "logits/0").iterdir()] == ["0.msg"]
  assert (tmp_path / "logits/0/0.msg").read_bytes() == before


def test_what_a_kill_left_half_written_is_tidied_away(tmp_path):
  mail, kind = mail_in(tmp_path), KINDS["logits"]
  mail.keep = 2
  (tmp_path / "logits/0").mkdir(parents=True)
  (tmp_path / "logits/0/.0.msg.17.tmp").write_bytes(b"half")
  for round in range(4):
    mail.leave(kind, round, {ME: valid("logits", random.Random(0))})
  assert sorted(p.name for p in (tmp_path / "logits/0").iterdir()) == ["2.msg", "3.msg"]


@pytest.mark.parametrize(
  "fails, heard, left",
  [
    ("open", False, False),
    ("stat", False, True),
    ("iterdir", True, True),
    ("replace", True, False),
  ],
)
def test_a_store_may_fail_with_an_error_of_its_own(tmp_path, monkeypatch, fails, heard, left):
  mail, kind = mail_in(tmp_path), KINDS["logits"]
  mail.leave(kind, ROUND, {SENDER: valid("logits", random.Random(0))})

  class Unavailable(Exception):
    """Object stores have such."""

  def fail(self, *arguments, **keywords):
    raise Unavailable("try again")

  monkeypatch.setattr(type(mail.box.folder), fails, fail)
  assert (asked(mail, "logits") is not None) == heard
  mail.leave(kind, ROUND, {ME: valid("logits", random.Random(0))})
  assert ("unsent" not in mail.counts()) == left


def test_a_wait_ends_with_the_message_the_time_or_a_stop(tmp_path):
  mail, kind = mail_in(tmp_path), KINDS["logits"]
  mail.wait, mail.look = 0.3, 0.01
  began = time.monotonic()
  assert asked(mail, "logits") is None
  assert 0.3 <= time.monotonic() - began < 5
  looks = iter((False, False, True))
  mail.wait, mail.stop = 600.0, lambda: next(looks)
  assert asked(mail, "logits") is None and next(looks, None) is None
  mail.stop = lambda: False
  later = mail_in(tmp_path)
  leave = lambda: later.leave(kind, ROUND, {SENDER: valid("logits", random.Random(0))})
  timer = threading.Timer(0.2, leave)
  timer.start()
  assert asked(mail, "logits").round == ROUND
  timer.join()


def test_nobody_waits_for_a_sender_that_has_gone_on(tmp_path):
  mail, kind = mail_in(tmp_path), KINDS["logits"]
  mail.leave(kind, ROUND + 1, {SENDER: valid("logits", random.Random(0))})
  mail.wait = 600.0
  assert asked(mail, "logits") is None


def test_who_begins_in_a_folder_with_later_messages_of_its_own_is_told(tmp_path, caplog):
  mail, kind = mail_in(tmp_path), KINDS["logits"]
  for round in (0, 1):
    mail.leave(kind, round, {ME: valid("logits", random.Random(0))})
  assert not caplog.records
  again = mail_in(tmp_path)
  again.leave(kind, 0, {ME: valid("logits", random.Random(0))})
  assert "give every run a folder of its own" in caplog.text
