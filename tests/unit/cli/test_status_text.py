"""Status for people: fits, says what matters first, can't be steered by names from outside."""

import pytest

from dslmodel.api.shapes import Surroundings, telemetry_shape
from dslmodel.cli.status_text import clip, duration, render
from tests.unit.api.samples import finding, snapshot

RECEIVERS = [
    {"name": "otlp_grpc", "address": "127.0.0.1:4317", "bound": True, "problem": None},
    {"name": "otlp_http", "address": "127.0.0.1:4318", "bound": False, "problem": "the port is taken by another dslmodel (pid 12)"},
]


def data(*, processing=True, stopped_at=None, age=0.4, **changes):
    telemetry = telemetry_shape(snapshot(**changes), Surroundings(processing=processing, receivers=RECEIVERS, dropped={"traces": 3}))
    telemetry |= {"age_seconds": age, "last_health_score": None}
    return {"telemetry": telemetry, "daemon": {"pid": 12, "stopped_at": stopped_at}}


def test_it_fits_into_80_columns_even_with_many_services_and_findings():
    many = {f"a-service-with-a-very-long-name-{n}": {"GET /": n} for n in range(30)}
    found = tuple(finding(f"id{n}", service=f"a-service-with-a-very-long-name-{n}", summary="words " * 40) for n in range(15))
    text = render(data(span_counts=many, patterns=found), colour=False)
    assert max(map(len, text.splitlines())) <= 80
    assert "and 10 more services" in text
    assert "and 5 more (`dsl telemetry findings --open`)" in text


def test_services_in_trouble_come_first_with_what_is_wrong():
    rows = [line for line in render(data(), colour=False).splitlines() if line.startswith(("payments ", "catalogue "))]
    assert rows[0].split() == ["payments", "400", "41.0", "%", "12.4", "210.0", "error_spike"]
    assert rows[1].split()[-1] == "learning"


def test_what_is_not_running_shows_no_numbers_as_if_it_were():
    text = render(data(processing=False, stopped_at="2027-01-15T08:00:00Z"), colour=False)
    assert "stopped at 2027-01-15T08:00:00Z" in text
    assert "spans/s" not in text


def test_a_receiver_that_does_not_listen_says_why():
    text = render(data(), colour=False)
    assert "not bound" in text
    assert "taken by another dslmodel (pid 12)" in text
    assert "3 traces" in text


def test_names_from_outside_cannot_steer_the_terminal():
    evil = "\x1b[2Jboo\r\n"
    text = render(data(span_counts={evil: {evil: 1}}, patterns=(finding(evil, service=evil, summary=evil),)), colour=False)
    assert "\x1b" not in text
    assert "\r" not in text


def test_colour_is_never_alone():
    plain = render(data(), colour=False)
    painted = render(data(), colour=True)
    for code in ("31", "32", "33", "35", "36", "1", "0"):
        painted = painted.replace(f"\x1b[{code}m", "")
    assert painted == plain


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (-1, "0.0 s"), (9.94, "9.9 s"), (59, "59 s"), (60, "1 min"), (3661, "1 h 1 min"), (90_000, "1 d 1 h")],
)
def test_lengths_of_time_have_at_most_two_units(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("text", "width", "shown"), [("abc", 3, "abc"), ("abcdef", 5, "ab..."), ("a\tb", 5, "a?b"), ("", 3, "")])
def test_texts_are_clipped_to_their_column(text, width, shown):
    assert clip(text, width) == shown
