"""A server's round: who arrives, and in which batches it goes through what they sent."""

from collections import Counter

import numpy as np
from helpers import make_env, with_task

from kdjax.algorithms.fedgkt import Hyper, arrivals
from kdjax.types import Pos

SIZES = (5, 3, 8, 4)
ALL = [(k, row) for k, n in enumerate(SIZES) for row in range(n)]


def plan_of(seeds=(0,), sizes=SIZES, identity=None, **changes):
  cohorts = (tuple(range(len(sizes))),)
  env = make_env(cohorts=cohorts, seeds=seeds, identity=identity)
  env = with_task(env, private_sizes=np.array(sizes))
  values = dict(server_batch=4, arrivals=4, order="shuffled", server_epochs=2) | changes
  return arrivals.plan_rounds(env, Hyper(server=("mlp", {}), server_optim={}, **values))


def names(plan, round, call, r=0):
  """(owner, row) of the unmasked rows of a call."""
  rows = plan.rows(round, call)
  assert [x.dtype for x in rows] == [np.int32, np.int32, np.float32]
  live = rows.mask[r] > 0
  return list(zip(rows.owner[r][live].tolist(), rows.row[r][live].tolist(), strict=True))


def test_together_all_are_worked_through_in_every_epoch_then_answered_once():
  plan = plan_of()
  assert plan.attendance.groups(0) == [[[0, 1, 2, 3]]]
  learn = [
    arrivals.Call(True, False, 0, epoch, b) for epoch in range(2) for b in range(5)
  ]  # ceil(20 / 4)
  assert list(plan.calls(0)) == learn + [arrivals.Call(False, True, 0, 0, b) for b in range(5)]
  parts = [sum((names(plan, 0, c) for c in plan.calls(0)[i : i + 5]), []) for i in (0, 5, 10)]
  assert all(sorted(p) == ALL for p in parts)
  assert parts[0] != parts[1] and parts[2] == ALL
  assert any(len({k for k, _ in names(plan, 0, c)}) > 1 for c in plan.calls(0)[:5])


def test_client_after_client_no_batch_mixes_them_and_epochs_repeat():
  plan = plan_of(order="client")
  epoch = [names(plan, 0, c) for c in plan.calls(0) if c.train and c.epoch == 0]
  assert [[k for k, _ in batch] for batch in epoch] == [
    [0] * 4, [0], [1] * 3, [2] * 4, [2] * 4, [3] * 4,
  ]  # fmt: skip
  assert sorted(sum(epoch, [])) == ALL and sum(epoch, []) != ALL
  assert epoch == [names(plan, 0, c) for c in plan.calls(0) if c.train and c.epoch == 1]
  assert epoch != [names(plan, 1, c) for c in plan.calls(1) if c.train and c.epoch == 0]
  assert sum(not c.train for c in plan.calls(0)) == 5  # answers need no batches of their own


def test_groups_are_answered_before_the_next_is_seen():
  plan = plan_of(arrivals=3, seeds=(1,))
  (groups,) = plan.attendance.groups(0)
  assert [len(g) for g in groups] == [3, 1] and sorted(sum(groups, [])) == [0, 1, 2, 3]
  for j, group in enumerate(groups):
    for train in (True, False):
      seen = [
        n for c in plan.calls(0) if (c.train, c.group) == (train, j) for n in names(plan, 0, c)
      ]
      expected = [n for n in ALL if n[0] in group]
      assert Counter(seen) == Counter(expected * (2 if train else 1))
  kinds = [(c.group, not c.train) for c in plan.calls(0)]
  assert kinds == sorted(kinds)


def test_a_server_that_learns_from_all_it_holds_answers_the_arriving_group_alone():
  """The newest upload of all who ever came; the first round's early group is by itself."""
  plan = plan_of(arrivals=3, seeds=(1,), trains_on="all", present=0.7)
  came = set()
  for t in range(6):
    for j, group in enumerate(plan.attendance.groups(t)[0]):
      came |= set(group)
      for train, who in ((True, came), (False, group)):
        calls = [c for c in plan.calls(t) if (c.train, c.group, c.epoch) == (train, j, 0)]
        assert sorted(n for c in calls for n in names(plan, t, c)) == [
          n for n in ALL if n[0] in who
        ]
  assert came == {0, 1, 2, 3}


def test_answers_within_the_last_epoch_need_no_calls_of_their_own():
  plan = plan_of(arrivals=3, trains_on="all", answers="before", seeds=(1,))
  calls = plan.calls(1)
  assert all(c.train for c in calls) and {c.epoch for c in calls if c.answers} == {1}
  told, arrived = {0: [], 1: []}, []
  for i, call in enumerate(calls):
    turn = plan.turn(Pos(0, 0, i, 1, len(calls), 0, 0))
    rows = plan.rows(1, call)
    live = turn.answer_mask[0] > 0
    told[call.group] += zip(rows.owner[0][live].tolist(), rows.row[0][live].tolist(), strict=True)
    if turn.arrived.any():
      arrived.append((call.group, call.epoch, call.batch, np.flatnonzero(turn.arrived).tolist()))
    assert turn.last == (i == len(calls) - 1)
  for j, group in enumerate(plan.attendance.groups(1)[0]):
    assert sorted(told[j]) == [n for n in ALL if n[0] in group]
    assert arrived[j] == (j, 0, 0, group)


def test_every_order_of_arrival_comes_up_equally_often():
  plan = plan_of(arrivals=1)
  first = Counter(plan.attendance.groups(t)[0][0][0] for t in range(2000))
  assert all(abs(first[k] / 2000 - 1 / 4) < 4 * np.sqrt(3 / 16 / 2000) for k in range(4))


def test_clients_arrive_with_the_given_probability():
  plan = plan_of(present=0.3)
  came = Counter(k for t in range(2000) for group in plan.attendance.groups(t)[0] for k in group)
  assert all(abs(came[k] / 2000 - 0.3) < 4 * np.sqrt(0.21 / 2000) for k in range(4))


def test_where_nobody_arrives_one_call_does_nothing():
  plan = plan_of(present=0.05)
  t = next(t for t in range(100) if plan.attendance.groups(t) == [[]])
  (call,) = plan.calls(t)
  assert not call.train and not names(plan, t, call)


def test_clients_draw_under_their_names():
  plain = plan_of(arrivals=2, present=0.7)
  order = (2, 0, 3, 1)  # client i is called order[i]
  sizes = [SIZES[i] for i in order]
  moved = plan_of(arrivals=2, present=0.7, sizes=sizes, identity=order)
  for t in range(20):
    renamed = [[order[k] for k in group] for group in moved.attendance.groups(t)[0]]
    assert renamed == plain.attendance.groups(t)[0]
    for a, b in zip(plain.calls(t), moved.calls(t), strict=True):
      assert a == b
      assert [(order[k], row) for k, row in names(moved, t, b)] == names(plain, t, a)


def test_replicas_wait_for_each_other():
  """The second holds less: it rests while the first goes on, and both are answered together."""
  plan = plan_of(seeds=(0, 1), sizes=(9, 7, 2, 1), arrivals=2)
  calls = plan.calls(0)
  assert [c.train for c in calls] == [True] * 8 + [False] * 4  # ceil(16 / 4), two epochs
  for i, c in enumerate(calls):
    assert bool(names(plan, 0, c, r=1)) == (i in (0, 4, 8))
  assert {k for k, _ in names(plan, 0, calls[0], r=1)} == {2, 3}


def test_epochs_may_fall_with_the_rounds():
  epochs = arrivals.epoch_schedule(((2, 20), (3, 15), (9, 1)))
  assert [epochs(t) for t in (0, 1, 2, 3, 8, 9, 50)] == [20, 20, 15, 1, 1, 1, 1]
  assert arrivals.epoch_schedule(7)(0) == arrivals.epoch_schedule([[5, 7]])(9) == 7
