"""The walk through prologue and cycle, by hand."""

import pytest

from kdjax.training import schedule
from kdjax.types import Algorithm, ConfigError, Feed, Phase, Pos


def phase(name, steps, feed=None, bytes_sent=lambda pos: {}):
  return Phase(name, step=None, feed=feed, steps=steps, bytes_sent=bytes_sent)


def algorithm(*cycle, prologue=(), bytes_at_start=lambda: {}):
  return Algorithm(
    init=None, cycle=cycle, predict=None, prologue=prologue, bytes_at_start=bytes_at_start
  )


PRE = phase("pre", 3, Feed(public=2))
TRAIN = phase("train", 4, Feed(private=2), bytes_sent=lambda pos: {"predictions": 1})
REFRESH = phase("refresh", 1, bytes_sent=lambda pos: {"checkpoints": 10 * (pos.phase_call + 1)})
MHD = algorithm(TRAIN, REFRESH, prologue=(PRE,), bytes_at_start=lambda: {"checkpoints": 1000})

# (phase, number, round, start, count, batches, n, settled, ends_round).
TWO_ROUNDS = [
  (PRE, 0, 0, 0, 0, 0, 3, True, False),
  (TRAIN, 1, 0, 3, 0, 3, 4, False, False),
  (REFRESH, 2, 0, 7, 0, 7, 1, True, True),
  (TRAIN, 1, 1, 8, 4, 7, 4, False, False),
  (REFRESH, 2, 1, 12, 1, 11, 1, True, True),
]


def walk(algorithm, *, steps=0, rounds=0, epoch_steps=None):
  return schedule.visits(algorithm, epoch_steps, steps=steps, rounds=rounds)


def test_walk_of_rounds():
  assert [tuple(v) for v in walk(MHD, rounds=2)] == TWO_ROUNDS


def test_walk_of_steps_cuts_the_last_visit():
  last = (TRAIN, 1, 2, 13, 8, 11, 2, True, True)
  assert [tuple(v) for v in walk(MHD, steps=13)] == TWO_ROUNDS + [last]


def test_what_closes_a_round_follows_one_that_is_cut_short():
  """An average runs, a refresh does not; a phase with a batch of its own cannot."""
  average = phase("average", 1)._replace(closes=True)
  visits = walk(algorithm(TRAIN, REFRESH, average), steps=6)
  names = ["train", "refresh", "average", "train", "average"]
  assert [v.phase.name for v in visits] == names
  assert [(v.calls, v.settled, v.ends_round) for v in visits[-2:]] == [
    (2, False, False),
    (1, True, True),
  ]
  assert (visits[-1].start, visits[-1].phase_start, visits[-1].round) == (8, 1, 1)
  server = phase("server", 2, Feed(private=2))
  visits = walk(algorithm(TRAIN, server, average), steps=3)
  assert [v.phase.name for v in visits] == ["train"]


def test_the_refresh_after_the_last_batch_still_runs():
  assert [tuple(v) for v in walk(MHD, steps=11)] == TWO_ROUNDS


def test_steps_may_end_within_the_prologue():
  assert [tuple(v) for v in walk(MHD, steps=2)] == [(PRE, 0, 0, 0, 0, 0, 2, True, True)]
  assert [tuple(v) for v in walk(MHD, steps=3)] == [(PRE, 0, 0, 0, 0, 0, 3, True, True)]


def test_a_cycle_that_begins_without_a_batch_does_not_begin_again():
  upload = phase("upload", 1)
  visits = walk(algorithm(upload, TRAIN), steps=8)
  assert [v.phase.name for v in visits] == ["upload", "train", "upload", "train"]
  assert all(v.settled for v in visits)  # an upload belongs to the round that it begins


def test_only_the_end_of_exchanges_is_settled():
  """Digest and revisit of FedMD take batches; gathering between them is no rest."""
  gather, average = phase("gather", 1), phase("average", 1)
  cycle = algorithm(PRE, gather, average, TRAIN)
  settled = [(v.phase.name, v.settled) for v in walk(cycle, rounds=2)]
  one = [("pre", False), ("gather", False), ("average", True), ("train", True)]
  assert settled == one + one


def test_epoch_phases_ask_for_their_length():
  feed = Feed(private=8, kind="epoch", epochs=2)
  lengths = {feed: 6}
  visits = walk(
    algorithm(phase("edge", None, feed), REFRESH), rounds=2, epoch_steps=lambda f, round: lengths[f]
  )
  assert [(v.phase.name, v.start, v.phase_start, v.calls) for v in visits] == [
    ("edge", 0, 0, 6),
    ("refresh", 6, 0, 1),
    ("edge", 7, 6, 6),
    ("refresh", 13, 1, 1),
  ]


def test_a_phase_in_prologue_and_cycle_counts_apart():
  visits = walk(algorithm(TRAIN, prologue=(TRAIN,)), rounds=1)
  assert [(v.number, v.phase_start, v.start, v.batches) for v in visits] == [
    (0, 0, 0, 0),
    (1, 0, 4, 4),
  ]


def test_after_counts_training_batches_only():
  visits = walk(MHD, rounds=2)
  assert [v.after(0) for v in visits] == [0, 3, 7, 7, 11]
  assert [v.after(v.calls) for v in visits] == [3, 7, 7, 11, 11]
  assert visits[3].after(2) == 9


def test_position_and_totals():
  visits = walk(MHD, steps=13)
  totals = schedule.totals(visits)
  assert totals == {0: 3, 1: 10, 2: 2}
  expected = Pos(
    call=10, phase_call=6, visit_call=2, round=1, visit_calls=4, phase_calls=10, batches=9
  )
  assert schedule.position(visits[3], 2, totals[1]) == expected
  assert schedule.position(visits[4], 0, 2) == Pos(
    12, 1, 0, 1, visit_calls=1, phase_calls=2, batches=11
  )


def test_evaluations_are_counted():
  visits = walk(MHD, steps=13)
  every = {5: 3, 13: 1, 100: 1, 1: 13, 0: 3}  # 5: after 5, 10, 13; 0: after each round
  assert {n: schedule.evaluations(visits, n) for n in every} == every


def test_positions_number_the_calls_without_gaps():
  visits = walk(MHD, steps=13)
  at = [schedule.position(v, i, 0) for v in visits for i in range(v.calls)]
  assert [pos.call for pos in at] == list(range(15))
  train = [
    schedule.position(v, i, 0).phase_call
    for v in visits
    if v.phase is TRAIN
    for i in range(v.calls)
  ]
  assert train == list(range(10))


@pytest.mark.parametrize(
  "step, expected",
  [
    (0, {"checkpoints": 1000}),
    (3, {"checkpoints": 1000}),  # the prologue sends nothing
    (5, {"checkpoints": 1000, "predictions": 2}),
    (8, {"checkpoints": 1010, "predictions": 4}),
    (15, {"checkpoints": 1030, "predictions": 10}),  # 10 and 20 by refreshes
    (99, {"checkpoints": 1030, "predictions": 10}),
  ],
)
def test_bytes_sent(step, expected):
  assert schedule.bytes_sent(MHD, walk(MHD, steps=13), step) == expected


@pytest.mark.parametrize("steps, rounds", [(0, 0), (5, 2)])
def test_exactly_one_of_steps_and_rounds(steps, rounds):
  with pytest.raises(ConfigError) as error:
    walk(MHD, steps=steps, rounds=rounds)
  assert (error.value.key, error.value.value) == ("steps", steps)
  assert str(rounds) in str(error.value)


def test_a_cycle_without_batches_never_ends():
  with pytest.raises(ConfigError) as error:
    walk(algorithm(REFRESH, prologue=(PRE,)), steps=5)
  assert (error.value.key, error.value.value) == ("steps", 5)


def test_a_cycle_of_empty_visits_is_refused():
  with pytest.raises(ConfigError):
    walk(algorithm(phase("train", 0, Feed(private=2))), rounds=3)


def test_steps_may_depend_on_the_round():
  shrinking = phase("server", lambda round: (3, 1)[round], TRAIN.feed)
  visits = walk(algorithm(TRAIN._replace(steps=1), shrinking, REFRESH), rounds=2)
  assert [v.calls for v in visits] == [1, 3, 1, 1, 1, 1]
  assert [v.ends_round for v in visits] == [False, False, True] * 2
