"""What a statistic did before: the order in which it is forgotten."""

import pytest

from dslmodel.detect.history import History


def test_what_was_learnt_longest_ago_is_forgotten_first():
    history = History()
    for key in ("a", "b", "c", "a"):
        history.learn(key, 1.0)
    history.forget_oldest(2)
    assert list(history) == ["c", "a"]
    assert history.count("b") == 0


def test_a_key_that_takes_a_forgotten_ones_place_starts_from_nothing():
    history = History()
    for key in range(200):
        history.learn(key, float(key))
    history.forget_oldest(50)
    for key in range(1000, 1100):
        history.learn(key, 7.0)
    center, _, known = history.normal([150, 199, 1000, 1099])
    assert center.tolist() == [150.0, 199.0, 7.0, 7.0]
    assert known.tolist() == [1.0, 1.0, 1.0, 1.0]


def test_a_flood_of_keys_takes_no_more_room_than_is_kept():
    history = History()
    for key in range(5_000):
        history.learn(key, 1.0)
        history.forget_oldest(100)
    assert len(list(history)) == 100
    assert history._values.shape[0] == pytest.approx(128)
