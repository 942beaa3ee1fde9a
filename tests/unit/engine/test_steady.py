"""The clock that never goes back."""

from hypothesis import given
from hypothesis import strategies as st

from dslmodel.clock import SECOND
from dslmodel.engine.steady import SteadyClock

START = 1_800_000_000 * SECOND


class Machine:
    """A wall clock that can be set, beside a clock that only counts."""

    def __init__(self):
        self.wall = START
        self.elapsed = 0

    def run(self, seconds):
        self.wall += round(seconds * SECOND)
        self.elapsed += round(seconds * SECOND)

    def clock(self):
        return SteadyClock(wall=lambda: self.wall, elapsed=lambda: self.elapsed)


def test_follows_the_wall_clock_and_its_steps_forward():
    machine = Machine()
    clock = machine.clock()
    machine.run(1.5)
    assert clock.now() == START + 1.5 * SECOND
    machine.wall += 3600 * SECOND
    assert clock.now() == START + 3601.5 * SECOND


def test_after_a_step_back_goes_on_at_half_pace_until_the_wall_clock_has_caught_up():
    machine = Machine()
    clock = machine.clock()
    machine.wall -= 10 * SECOND
    assert clock.now() == START
    assert clock.lead_seconds == 10
    machine.run(8)
    assert clock.now() == START + 4 * SECOND
    assert clock.lead_seconds == 6
    machine.run(12)
    assert clock.now() == START + 10 * SECOND
    machine.run(5)
    assert clock.now() == START + 15 * SECOND
    assert clock.lead_seconds == 0


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(-(10**13), 10**13))))
def test_never_goes_back_whatever_the_wall_clock_does(moves):
    machine = Machine()
    clock = machine.clock()
    last = clock.now()
    for seconds, step in moves:
        machine.run(seconds)
        machine.wall += step
        now = clock.now()
        assert now >= max(last, machine.wall)
        last = now
