"""A jump that comes every week at the same hour is normal; the same jump at another hour is not."""

import numpy as np

from dslmodel.detect.history import History
from dslmodel.detect.season import Seasons

HOUR, WEEK = 3600, 168 * 3600
KEY = (("web",), "latency_shift", 60)


def learnt(values_by_hour: dict[int, float], weeks: int = 1) -> Seasons:
    """Seasons after `weeks` weeks in which each named hour had sixty values."""
    history, seasons = History(), Seasons(min_values=30)
    for week in range(weeks):
        for hour in range(168):
            for _ in range(240 if hour in values_by_hour else 0):
                history.learn(KEY, values_by_hour[hour])
            seasons.learn(week * WEEK + (hour + 1) * HOUR, history)
    return seasons


def test_hour_of_last_week_raises_the_center_at_that_hour_only():
    seasons = learnt({9: 1.0})
    center = np.array([0.1])
    assert seasons.highest([KEY], center, WEEK + 9 * HOUR + 5) == [1.0]
    assert seasons.highest([KEY], center, WEEK + 10 * HOUR + 5) == [0.1]


def test_lower_hour_lowers_the_center_of_what_is_bad_when_low():
    seasons = learnt({3: 2.0})
    assert seasons.lowest([KEY], np.array([9.0]), WEEK + 3 * HOUR) == [2.0]
    assert seasons.highest([KEY], np.array([9.0]), WEEK + 3 * HOUR) == [9.0]


def test_hour_with_few_values_teaches_nothing():
    history, seasons = History(), Seasons(min_values=30)
    for _ in range(29):
        history.learn(KEY, 5.0)
    seasons.learn(HOUR, history)
    assert seasons.highest([KEY], np.array([0.0]), WEEK) == [0.0]


def test_unknown_key_keeps_its_center():
    assert learnt({9: 1.0}).highest([(("db",), "latency_shift", 60)], np.array([0.3]), WEEK + 9 * HOUR) == [0.3]


def test_weeks_are_averaged_with_a_memory_of_four():
    history, seasons = History(), Seasons(min_values=30)
    for week, value in enumerate([0.0, 0.0, 0.0, 0.0, 4.0]):
        for _ in range(240):
            history.learn(KEY, value)
        seasons.learn(week * WEEK + HOUR, history)
    assert seasons.highest([KEY], np.array([-1.0]), 5 * WEEK) == [1.0]


def test_dump_loads_again_and_forgetting_forgets():
    seasons = learnt({9: 1.0, 30: 2.0})
    again = Seasons(min_values=30)
    for key, hours in seasons.dump():
        again.load(key, hours)
    assert again.dump() == seasons.dump()
    again.forget([KEY])
    assert again.dump() == []
