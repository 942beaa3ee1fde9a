"""Baselines: profiles that forget by halves, quarantine, forks, histories, and all of it to JSON and back."""

import json
import math
from base64 import b64decode

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from dslmodel.detect.history import LENGTH, History
from dslmodel.detect.profiles import HALF_LIFE_SECONDS, Profile, Profiles
from dslmodel.windows.sketch import bucket_of

MS = 1_000_000


def histogram(*durations_ms: float) -> dict[int, float]:
    counted: dict[int, float] = {}
    for ms in durations_ms:
        bucket = bucket_of(round(ms * MS))
        counted[bucket] = counted.get(bucket, 0.0) + 1.0
    return counted


def learnt(*durations_ms: float, errors: float = 0.0, second: int = 1000) -> Profile:
    profile = Profile()
    profile.learn(histogram(*durations_ms), errors, second)
    return profile


def test_profile_says_what_is_typical():
    profile = learnt(*[10.0] * 95, *[100.0] * 5, errors=2)
    assert profile.mu == pytest.approx(0.95 * math.log(10) + 0.05 * math.log(100), abs=0.01)
    assert profile.mean_ms == pytest.approx(14.5, rel=0.01)
    assert math.exp(profile.tau) <= 100.5
    assert profile.error_ratio == pytest.approx(2.5 / 101)
    assert profile.seen == 100


def test_error_ratio_of_nothing_and_of_few_is_no_certainty():
    assert Profile().error_ratio == 0.5
    assert 0.0 < learnt(*[10.0] * 10).error_ratio < 0.1


def test_profile_forgets_by_halves():
    profile = learnt(*[10.0] * 10_000, errors=10)
    profile.learn(histogram(*[40.0] * 5_000), 0.0, 1000 + round(HALF_LIFE_SECONDS))
    assert profile.calls == pytest.approx(10_000, rel=0.01)
    assert profile.errors == pytest.approx(5, rel=0.01)
    assert profile.mu == pytest.approx((math.log(10) + math.log(40)) / 2, abs=0.02)
    assert profile.seen == 15_000


def test_a_night_without_requests_does_not_wipe_out_what_was_learnt():
    profile = learnt(*[10.0] * 500)
    profile.learn(histogram(500.0), 0.0, 1000 + 24 * 3600)
    assert math.exp(profile.mu) < 50


def test_a_new_version_starts_from_the_old_ones_expectations_and_soon_has_its_own():
    old = learnt(*[10.0] * 100_000, errors=100)
    new = old.fork()
    assert (new.mu, new.tau, new.seen) == (pytest.approx(old.mu), pytest.approx(old.tau), old.seen)
    for profile in (old, new):
        profile.learn(histogram(*[20.0] * 2000), 0.0, 1001)
    assert math.exp(old.mu) == pytest.approx(10, rel=0.05)
    assert math.exp(new.mu) > 17


def test_profile_survives_json():
    profile = learnt(10, 12, 300, errors=1)
    again = Profile.load(json.loads(json.dumps(profile.dump())))
    for name in ("mu", "tau", "variance", "tail_mean", "tail_variance", "mean_ms", "error_ratio", "seen", "learnt_at"):
        assert getattr(again, name) == pytest.approx(getattr(profile, name), rel=1e-6)


# ---------------------------------------------------------------- quarantine


def test_what_was_counted_is_learnt_only_after_quarantine():
    profiles = Profiles()
    profiles.count("web", histogram(10).items(), 0.0)
    profiles.close_block(100)
    profiles.release(100, lambda *_: True)
    assert profiles.get("web") is None
    profiles.release(101, lambda *_: True)
    known = profiles.get("web")
    assert known is not None
    assert known.seen == 1


def test_what_was_counted_in_trouble_is_never_learnt():
    profiles = Profiles()
    for second in (100, 110, 120):
        profiles.count("web", histogram(10).items(), 1.0)
        profiles.count("db", histogram(10).items(), 0.0)
        profiles.close_block(second)
    profiles.release(200, lambda key, second: not (key == "web" and second == 110))
    web, db = profiles.get("web"), profiles.get("db")
    assert web is not None
    assert db is not None
    assert (web.seen, web.errors, db.seen) == (2, pytest.approx(2, rel=0.01), 3)


def test_forgotten_keys_do_not_come_back_from_quarantine():
    profiles = Profiles()
    profiles.count("web", histogram(10).items(), 0.0)
    profiles.close_block(100)
    profiles.count("web", histogram(10).items(), 0.0)
    profiles.forget(lambda key: key == "web")
    profiles.close_block(110)
    profiles.release(200, lambda *_: True)
    assert profiles.get("web") is None


# ---------------------------------------------------------------- histories

values = st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=LENGTH + 20)


@given(values)
@hypothesis_settings(max_examples=60)
def test_center_is_the_median_of_the_last_values(past):
    history = History()
    for value in past:
        history.learn("k", value)
    center, scale, known = history.normal(["k", "unknown"])
    kept = past[-LENGTH:]
    assert center.tolist() == [pytest.approx(float(np.median(kept)), abs=1e-3), 0.0]
    assert known.tolist() == [len(past), 0]
    assert scale[0] >= 1.4826 * np.median(np.abs(np.array(kept) - np.median(kept))) - 1e-3
    assert np.isfinite(scale).all()


def test_one_spike_moves_neither_center_nor_scale():
    history = History()
    for i in range(100):
        history.learn("k", 1e6 if i == 50 else float(i % 3))
    center, scale, _ = history.normal(["k"])
    assert center[0] <= 2
    assert scale[0] <= 3


def test_what_is_spiky_by_nature_has_a_large_scale():
    history = History()
    for i in range(100):
        history.learn("k", 50.0 if i % 20 == 0 else 0.0)
    assert history.normal(["k"])[1][0] > 20


def test_forgotten_keys_leave_their_place_clean():
    history = History()
    for _ in range(10):
        history.learn("a", 5.0)
    history.forget(["a", "never"])
    history.learn("b", 1.0)
    center, _, known = history.normal(["a", "b"])
    assert center.tolist() == [0.0, 1.0]
    assert known.tolist() == [0.0, 1.0]
    assert list(history) == ["b"]


def test_places_that_were_given_back_are_never_given_twice():
    history = History()
    for i in range(200):
        history.learn(i, float(i))
    history.forget(range(100))
    for i in range(1000, 1150):
        history.learn(i, float(i))
    keys = [*range(100, 200), *range(1000, 1150)]
    center, _, _ = history.normal(keys)
    assert center.tolist() == [float(key) for key in keys]


@pytest.mark.parametrize("count", [1, LENGTH - 1, LENGTH, LENGTH + 1, 2 * LENGTH, 2 * LENGTH + 7])
def test_history_is_dumped_oldest_first(count):
    history = History()
    for i in range(count):
        history.learn(("a", 1), float(i))
    ((key, kept),) = history.dump()
    assert key == ["a", 1]
    assert np.frombuffer(b64decode(kept), dtype="<f4").tolist() == [float(i) for i in range(max(0, count - LENGTH), count)]


def test_a_history_that_was_dumped_says_the_same_when_it_is_loaded():
    history, again = History(), History()
    for i in range(LENGTH + 5):
        history.learn(("a", 1), 0.1 * i)
    for key, kept in json.loads(json.dumps(history.dump())):
        again.load(tuple(key), kept)
    again.load("plain", [1.0, 2.0])
    assert again.normal([("a", 1)])[0] == history.normal([("a", 1)])[0]
    assert again.dump()[:1] == history.dump()
    assert again.count("plain") == 2
