"""Laws of every engine that counts spans: what goes in comes out, once, wherever and whenever it arrives."""

import tracemalloc
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from dslmodel.clock import SECOND
from dslmodel.ingest.spans import decode_spans
from dslmodel.records import Columns, EdgeKey, Encoding, FollowKey, Kind, Payload, SeriesKey, WindowBatch
from dslmodel.testing import BuiltSpan, SpanFactory, at, payload
from dslmodel.windows.aggregate import AggregatorLimits, ReferenceAggregator
from dslmodel.windows.columns import merge
from dslmodel.windows.sketch import bucket_of, middle_ms

SETTLE = 6
LATE = 30

AGGREGATORS = {"reference": lambda limits: ReferenceAggregator(decode_spans, limits)}
COLUMNS = ("series", "entries", "calls", "gaps", "self_times", "settled", "follows")


@pytest.fixture(params=sorted(AGGREGATORS))
def build(request):
    """Builds an engine: build(series=…) sets limits."""
    return lambda **limits: AGGREGATORS[request.param](
        AggregatorLimits(**{"settle_seconds": float(SETTLE), "late_seconds": float(LATE), **limits})
    )


@pytest.fixture
def make():
    return SpanFactory(7).span


def rows(columns: Columns) -> dict:
    """{(second, key): (count, weight, errors, {bucket: weight})}."""
    out = {}
    for i, (second, key) in enumerate(zip(columns.second.tolist(), columns.key.tolist(), strict=True)):
        part = slice(int(columns.offset[i]), int(columns.offset[i + 1]))
        histogram = dict(zip(columns.bucket[part].tolist(), np.round(columns.bucket_weight[part], 6).tolist(), strict=True))
        place = (second, columns.keys[key])
        assert place not in out, "a row a place"
        out[place] = (int(columns.count[i]), round(float(columns.weight[i]), 6), round(float(columns.errors[i]), 6), histogram)
    return out


def counts(columns: Columns) -> dict:
    """{key: spans} over all seconds."""
    total: Counter = Counter()
    for (_, key), (count, *_) in rows(columns).items():
        total[key] += count
    return dict(total)


def put(aggregator, *payloads: Payload, upto: float = 100.0) -> WindowBatch:
    """Add payloads, let everything settle, and give it all as one batch."""
    for item in payloads:
        aggregator.add(item, item.received_at)
    return aggregator.seal(at(upto))


def trace(make, second: float, *, kinds: bool = True, wire_ms: float = 2.0, status: str = "unset") -> dict[str, list[BuiltSpan]]:
    """web asks cart: {service: its spans}."""
    server, client = (Kind.SERVER, Kind.CLIENT) if kinds else (Kind.UNSPECIFIED, Kind.UNSPECIFIED)
    root = make("GET /cart", at(second), 50, kind=server)
    call = make("GET", at(second + 0.010), 30, kind=client, parent=root)
    served = make("GET /items", at(second + 0.010) + round(wire_ms * 5e5), 30 - wire_ms, kind=server, parent=call, status=status)
    return {"web": [call, root], "cart": [served]}


def sent(parts: dict[str, list[BuiltSpan]], *, received_at: int, order: Sequence[str] = ("web", "cart"), **how) -> list[Payload]:
    return [payload(parts[name], service=name, received_at=received_at, **how) for name in order]


# ---------------------------------------------------------------- nothing is lost


def test_what_was_accepted_is_windowed_late_or_own(build, make):
    aggregator = build(operations_per_service=3)
    fresh = [make(f"operation {chr(97 + i)}", at(99), 5) for i in range(9)]
    old = [make("old", at(40), 5) for _ in range(4)]
    own = [make("tick", at(99), 1) for _ in range(2)]
    mine = payload(own, service="dslmodel", received_at=at(100))
    mine.message.resource_spans[0].resource.attributes.add(key="dslmodel.own").value.bool_value = True
    batch = put(aggregator, payload(fresh, received_at=at(100)), payload(old, received_at=at(100)), mine, upto=110)
    tally = batch.tally
    assert (tally.accepted, tally.windowed, tally.late, tally.own) == (15, 9, 4, 2)
    assert tally.overflowed == 6
    assert int(batch.series.count.sum()) == 9


def test_own_spans_are_counted_nowhere_but_as_own(build, make):
    aggregator = build()
    mine = payload([make("tick", at(1), 1, kind=Kind.SERVER)], service="dslmodel", received_at=at(2))
    mine.message.resource_spans[0].resource.attributes.add(key="dslmodel.own").value.bool_value = True
    batch = put(aggregator, mine)
    assert all(not len(getattr(batch, name).second) for name in COLUMNS)
    assert not batch.exemplars
    assert not batch.watermarks
    assert aggregator.recent() == ()


@given(data=st.data())
@hypothesis_settings(max_examples=25)
def test_totals_are_conserved_whatever_comes(data):
    for engine in AGGREGATORS.values():
        aggregator = engine(AggregatorLimits(series=6, operations_per_service=2, span_cache=8, late_seconds=LATE))
        make = SpanFactory(data.draw(st.integers(0, 9))).span
        sealed = accepted = 0
        for second in range(data.draw(st.integers(1, 6))):
            for _ in range(data.draw(st.integers(0, 4))):
                spans = [
                    make(data.draw(st.sampled_from(("a", "b", "c", "d"))), at(second - age), 3, kind=data.draw(st.sampled_from(list(Kind))))
                    for age in data.draw(st.lists(st.integers(-20, 60), max_size=5))
                ]
                accepted += aggregator.add(payload(spans, service=data.draw(st.sampled_from("xyz"))), at(second + 0.5)).accepted
            batch = aggregator.seal(at(second + 1))
            sealed += int(batch.series.count.sum())
        tally = aggregator.tally()
        assert tally.accepted == accepted == tally.windowed + tally.late + tally.own
        assert tally.windowed == sealed


# ---------------------------------------------------------------- order and encoding don't matter


@given(data=st.data())
@hypothesis_settings(max_examples=20)
def test_payloads_of_a_tick_count_the_same_in_any_order_and_either_encoding(data):
    make = SpanFactory(1).span
    parts = [
        (name, spans)
        for i in range(4)
        for name, spans in trace(
            make, i * 0.3, kinds=data.draw(st.booleans()), status=data.draw(st.sampled_from(("unset", "error")))
        ).items()
    ]
    for engine in AGGREGATORS.values():
        expected = None
        for _ in range(2):
            order = data.draw(st.permutations(parts))
            encodings = data.draw(st.lists(st.sampled_from(list(Encoding)), min_size=len(order), max_size=len(order)))
            batch = put(
                engine(AggregatorLimits()),
                *(payload(s, service=n, received_at=at(5), encoding=e) for (n, s), e in zip(order, encodings, strict=True)),
            )
            found = {name: rows(getattr(batch, name)) for name in COLUMNS}
            assert expected is None or found == expected
            expected = found


def test_sealing_in_between_changes_nothing_in_the_sum(build, make):
    parts = [sent(trace(make, i * 0.7), received_at=at(i * 0.7 + 0.2)) for i in range(5)]
    whole = put(build(), *(item for part in parts for item in part))
    pieces, aggregator = [], build()
    for i, part in enumerate(parts):
        pieces.append(put(aggregator, *part, upto=i + 1))
    pieces.append(aggregator.seal(at(100)))
    for name in COLUMNS:
        assert rows(merge([getattr(piece, name) for piece in pieces])) == rows(getattr(whole, name)), name


def test_undecoded_bytes_count_like_the_decoded_message(build, make):
    item = payload(trace(make, 0)["web"], service="web", received_at=at(1))
    bare = Payload(
        signal=item.signal, encoding=item.encoding, body=item.body, message=None, received_at=item.received_at, source=item.source
    )
    assert rows(put(build(), bare).series) == rows(put(build(), item).series)


# ---------------------------------------------------------------- time


def test_span_is_counted_in_the_second_in_which_it_ended(build, make):
    batch = put(build(), payload([make("a", at(3.9), 200)], received_at=at(5)))
    assert [second for second, _ in rows(batch.series)] == [at(4) // SECOND]


def test_late_span_merges_into_its_own_second(build, make):
    aggregator = build()
    first = put(aggregator, payload([make("a", at(10), 5)], received_at=at(11)), upto=12)
    later = put(aggregator, payload([make("a", at(10), 5)], received_at=at(10 + LATE - 1)), upto=40)
    merged = rows(merge([first.series, later.series]))
    assert next(iter(merged.values()))[0] == 2
    assert len(merged) == 1
    assert later.tally.late == 0


def test_span_older_than_the_limit_is_counted_late_and_nowhere_else(build, make):
    batch = put(build(), payload([make("a", at(10), 5, kind=Kind.SERVER)], received_at=at(10 + LATE + 1)), upto=60)
    assert batch.tally.late == 1
    assert not len(batch.series.second)
    assert not len(batch.entries.second)


def test_span_from_the_future_is_counted_near_its_receipt(build, make):
    batch = put(build(), payload([make("a", at(5000), 5)], received_at=at(10)), upto=20)
    (second, _), *_ = rows(batch.series)
    assert at(10) // SECOND <= second <= at(16) // SECOND


def test_watermark_tells_how_far_each_instance_is(build, make):
    items = [
        payload([make("a", at(1), 5), make("a", at(3), 5)], service="s", instance="i1", received_at=at(6)),
        payload([make("a", at(2), 5)], service="s", instance="i2", received_at=at(7)),
        payload([make("a", at(1.5), 5)], service="s", instance="i1", received_at=at(8)),
    ]
    marks = {(m.service, m.instance): m for m in put(build(), *items).watermarks}
    assert marks["s", "i1"].ended_at == at(3.005)
    assert marks["s", "i1"].received_at == at(8)
    assert marks["s", "i2"].received_at == at(7)


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "operation"),
    [
        ("GET /users/123", "GET /users/{n}"),
        ("GET /users/123/orders/9", "GET /users/{n}/orders/{n}"),
        ("GET /f/5b2f7f6c-1c2d-4e3f-8a9b-0c1d2e3f4a5b", "GET /f/{id}"),
        ("GET /o/65a1b2c3d4e5f60718293a4b", "GET /o/{id}"),
        ("GET /cart?user=77", "GET /cart"),
        ("SELECT * FROM t WHERE name = 'x'", "SELECT * FROM t WHERE name = {s}"),
        ("GET /v1/items", "GET /v1/items"),
        ("GET /oauth2/token", "GET /oauth2/token"),
        ("s3.put", "s3.put"),
        ("", ""),
    ],
)
def test_ids_are_taken_out_of_names(build, make, name, operation):
    batch = put(build(), payload([make(name, at(1), 5)], received_at=at(2)))
    assert [key.operation for key in batch.series.keys] == [operation]


@pytest.mark.timeout(60)
def test_a_hundred_thousand_names_leave_memory_flat(build):
    aggregator = build()
    make = SpanFactory(3).span

    def flood(first: int, last: int) -> None:
        for second in range(first, last, 5):
            spans = [make(f"op {_letters(second * 200 + i)}", at(second), 1) for i in range(1000)]
            aggregator.add(payload(spans, service="noisy"), at(second + 0.5))
            aggregator.seal(at(second + 1))

    flood(0, 350)
    tracemalloc.start()
    try:
        flood(350, 420)
        before, _ = tracemalloc.get_traced_memory()
        flood(420, 500)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 2_000_000
    batch = put(aggregator, payload([make(f"op {_letters(10**6 + i)}", at(500), 1) for i in range(50)], service="noisy"), upto=501)
    assert {key.operation for key in batch.series.keys} == {"other"}
    assert dict(batch.offenders)["noisy"] == 50
    assert batch.tally.overflowed > 99_000
    assert batch.tally.accepted == batch.tally.windowed == 100_050


def _letters(number: int) -> str:
    return "".join(chr(97 + int(digit)) for digit in str(number))


def test_name_that_overflows_does_not_push_known_names_out(build, make):
    aggregator = build(operations_per_service=2)
    known = [make(name, at(1), 1) for name in ("a", "b")]
    flood = [make(f"x{chr(97 + i)}", at(1), 1) for i in range(20)]
    batch = put(
        aggregator,
        payload(known, received_at=at(2)),
        payload(flood, received_at=at(2)),
        payload([make("a", at(1.5), 1)], received_at=at(2)),
    )
    assert {k.operation: n for k, n in counts(batch.series).items()} == {"a": 2, "b": 1, "other": 20}


def test_too_many_services_are_counted_together(build, make):
    aggregator = build(series=20)  # a tenth of them may be services
    items = [payload([make("a", at(1), 1)], service=f"s{i}", received_at=at(2)) for i in range(10)]
    found = counts(put(aggregator, *items).series)
    assert sum(found.values()) == 10
    assert {key.service for key in found} == {"s0", "s1", "other"}


def test_a_caller_of_ever_new_hosts_has_a_bounded_number_of_edges(build, make):
    aggregator = build(operations_per_service=3)
    calls = [make("GET", at(1), 1, kind=Kind.CLIENT, attributes={"server.address": f"host{i}"}) for i in range(20)]
    batch = put(aggregator, payload(calls, service="crawler", received_at=at(2)), upto=60)
    assert counts(batch.calls) == {EdgeKey("crawler", f"host{i}"): 1 for i in range(3)} | {EdgeKey("crawler", "other"): 17}


def test_idle_names_give_their_place_back(build, make):
    aggregator = build(operations_per_service=1)
    put(aggregator, payload([make("a", at(1), 1)], received_at=at(2)), upto=3)
    aggregator.seal(at(7200))
    batch = put(aggregator, payload([make("b", at(7201), 1)], received_at=at(7202)), upto=7300)
    assert [key.operation for key in batch.series.keys] == ["b"]


# ---------------------------------------------------------------- edges


@pytest.mark.parametrize("kinds", [True, False], ids=["with kinds", "without kinds"])
@pytest.mark.parametrize("order", [("web", "cart"), ("cart", "web")], ids=["caller first", "callee first"])
@pytest.mark.parametrize("apart", [0.0, 4.0], ids=["together", "4 s apart"])
def test_call_between_services_is_an_edge(build, make, kinds, order, apart):
    parts = trace(make, 1, kinds=kinds)
    aggregator = build()
    first, second = sent(parts, received_at=at(2), order=order)
    one = put(aggregator, first, upto=2 + apart)
    aggregator.add(second, at(2 + apart))
    other = aggregator.seal(at(40))
    assert counts(merge([one.calls, other.calls])) == {EdgeKey("web", "cart"): 1}
    entries = counts(merge([one.entries, other.entries]))
    assert {(key.service, key.operation): n for key, n in entries.items()} == {("web", "GET /cart"): 1, ("cart", "GET /items"): 1}


def test_gap_is_the_callers_duration_less_the_callees(build, make):
    batch = put(build(), *sent(trace(make, 1, wire_ms=6), received_at=at(2)))
    ((_, edge), (count, _, _, histogram)), *_ = rows(batch.gaps).items()
    assert edge == EdgeKey("web", "cart")
    assert count == 1
    assert list(histogram) == [bucket_of(6_000_000)]


def test_self_time_is_what_no_child_covers(build, make):
    batch = put(build(), *sent(trace(make, 1), received_at=at(2)))
    own = {key.operation: middle_ms(next(iter(cell[3]))) for (_, key), cell in rows(batch.self_times).items()}
    assert own["GET /cart"] == pytest.approx(20, rel=0.01)
    assert own["GET /items"] == pytest.approx(28, rel=0.01)


def test_overlapping_children_are_covered_once(build, make):
    root = make("root", at(1), 100, kind=Kind.SERVER)
    children = [make("work", at(1.01), 50, parent=root), make("work", at(1.03), 50, parent=root), make("work", at(1.02), 10, parent=root)]
    batch = put(build(), payload([*children, root], received_at=at(2)))
    own = {key.operation: list(cell[3]) for (_, key), cell in rows(batch.self_times).items()}
    assert own["root"] == [bucket_of(30_000_000)]


def test_what_follows_from_a_request_is_counted_with_it(build, make):
    parts = [trace(make, i * 0.1) for i in range(3)]
    lonely = make("GET /cart", at(0.5), 50, kind=Kind.SERVER)
    items = [item for part in parts for item in sent(part, received_at=at(2))]
    batch = put(build(), *items, payload([lonely], service="web", received_at=at(2)))
    assert counts(batch.follows)[FollowKey("web", "GET /cart", "→ cart")] == 3
    assert counts(batch.settled)[SeriesKey("web", "GET /cart", int(Kind.SERVER), "")] == 4


def test_failing_call_is_told_at_once_by_its_caller(build, make):
    aggregator = build()
    put(aggregator, *sent(trace(make, 1), received_at=at(2)), upto=20)
    root = make("GET /cart", at(20), 50, kind=Kind.SERVER, status="error")
    call = make("GET", at(20), 30, kind=Kind.CLIENT, parent=root, status="error", attributes={"server.address": "cart"})
    batch = put(aggregator, payload([call, root], service="web", received_at=at(20.5)), upto=21)
    (count, _, errors, _), *_ = rows(batch.calls).values()
    assert (count, errors) == (1, 1.0)
    assert batch.calls.keys == (EdgeKey("web", "cart"),)


def test_failing_call_is_counted_once_when_its_callee_comes_later(build, make):
    parts = trace(make, 1, status="error")
    parts["web"] = [
        BuiltSpan(**{f: getattr(s, f) for f in s.__dataclass_fields__} | {"status": "error", "attributes": {"server.address": "cart"}})
        for s in parts["web"]
    ]
    aggregator = build()
    web, cart = sent(parts, received_at=at(2))
    one = put(aggregator, web, upto=3)
    aggregator.add(cart, at(4))
    assert counts(merge([one.calls, aggregator.seal(at(30)).calls])) == {EdgeKey("web", "cart"): 1}


def test_messages_have_an_edge_and_no_gap(build, make):
    sender = make("publish", at(1), 2, kind=Kind.PRODUCER)
    receiver = make("process", at(3), 40, kind=Kind.CONSUMER, parent=sender)
    batch = put(build(), payload([sender], service="shop", received_at=at(4)), payload([receiver], service="mailer", received_at=at(4)))
    assert counts(batch.calls) == {EdgeKey("shop", "mailer"): 1}
    assert not len(batch.gaps.second)


def test_error_is_counted_where_it_is(build, make):
    batch = put(build(), *sent(trace(make, 1, status="error"), received_at=at(2)))
    errors = {key.service: cell[2] for (_, key), cell in rows(batch.entries).items()}
    assert errors == {"web": 0.0, "cart": 1.0}


# ---------------------------------------------------------------- sampling, repeats, bounds


def test_sampled_spans_stand_for_those_left_out(build, make):
    spans = [make("a", at(1), 5, kind=Kind.SERVER, trace_state="vendor=x,ot=th:e;rv:1234") for _ in range(3)]
    batch = put(build(), payload(spans, received_at=at(2)))
    (count, weight, _, histogram), *_ = rows(batch.series).values()
    assert (count, weight) == (3, 24.0)
    assert sum(histogram.values()) == 24.0


def test_span_that_comes_twice_does_not_join_twice(build, make):
    parts = trace(make, 1)
    items = sent(parts, received_at=at(2))
    batch = put(build(), *items, *items)
    assert counts(batch.calls) == {EdgeKey("web", "cart"): 1}
    assert batch.tally.accepted == batch.tally.windowed == 6


def test_cache_of_spans_is_bounded_and_what_leaves_it_unjoined_is_counted(build, make):
    aggregator = build(span_cache=50)
    orphans = [make("a", at(1), 5, kind=Kind.SERVER, parent_id=f"{i + 1:016x}") for i in range(500)]
    batch = put(aggregator, payload(orphans, received_at=at(2)), upto=60)
    assert batch.tally.joins_missed == 500
    assert int(batch.settled.count.sum()) == 500


def test_orphans_are_missed_once_their_parents_can_no_longer_come(build, make):
    aggregator = build()
    batch = put(aggregator, payload([make("a", at(1), 5, kind=Kind.SERVER, parent_id="00000000000000aa")], received_at=at(2)), upto=20)
    assert batch.tally.joins_missed == 0
    assert aggregator.seal(at(40)).tally.joins_missed == 1


def test_exemplars_are_few_and_name_their_trace(build, make):
    good = [make("a", at(1), 5, kind=Kind.SERVER) for _ in range(20)]
    bad = [make("a", at(1), 5, kind=Kind.SERVER, status="error") for _ in range(20)]
    batch = put(build(), payload([*good, *bad], service="s", received_at=at(2)))
    assert 1 <= sum(e.is_error for e in batch.exemplars) <= 5
    assert 1 <= sum(not e.is_error for e in batch.exemplars) <= 5
    assert {e.trace_id for e in batch.exemplars} <= {s.trace_id for s in (*good, *bad)}


def test_a_batch_holds_only_what_changed_since_the_last(build, make):
    aggregator = build()
    put(aggregator, *sent(trace(make, 1), received_at=at(2)), upto=50)
    batch = aggregator.seal(at(51))
    assert all(not len(getattr(batch, name).second) for name in COLUMNS)
    assert not batch.exemplars
    assert not batch.watermarks


def test_nothing_at_all_gives_empty_columns(build):
    batch = build().seal(at(1))
    for name in COLUMNS:
        columns = getattr(batch, name)
        assert len(columns.second) == len(columns.key) == len(columns.bucket) == 0
        assert columns.offset.tolist() == [0]
    assert (batch.tally.accepted, batch.tally.windowed) == (0, 0)


@pytest.mark.parametrize("duration_ms", [0, 10**9])
def test_durations_from_nothing_to_days_are_counted(build, make, duration_ms):
    batch = put(build(), payload([make("a", at(-(10**6)) if duration_ms else at(1), duration_ms)], received_at=at(2)))
    assert int(batch.series.count.sum()) == 1


def test_spans_without_a_service_are_counted_as_of_an_unknown_one(build, make):
    batch = put(build(), payload([make("a", at(1), 5)], service="", received_at=at(2)))
    assert {key.service for key in batch.series.keys} == {"unknown_service"}
