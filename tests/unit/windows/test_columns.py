"""Merging columns is addition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dslmodel.records import Columns
from dslmodel.windows.columns import Cell, merge, rows_of, to_columns

spans = st.tuples(
    st.integers(0, 3), st.sampled_from("abc"), st.integers(0, 5), st.sampled_from((1.0, 2.0, 16.0)), st.booleans()
)  # second, key, bucket, weight, is_error
batches = st.lists(spans, max_size=30)


def columns(batch) -> Columns:
    cells: dict = {}
    for second, key, bucket, weight, is_error in batch:
        cells.setdefault((second, key), Cell()).add(bucket, weight, is_error)
    return to_columns(cells)


def content(of: Columns) -> dict:
    out = {}
    for i, place in enumerate(rows_of(of)):
        part = slice(int(of.offset[i]), int(of.offset[i + 1]))
        histogram = dict(zip(of.bucket[part].tolist(), of.bucket_weight[part].tolist(), strict=True))
        out[place] = (int(of.count[i]), float(of.weight[i]), float(of.errors[i]), histogram)
    return out


@given(batches, batches, batches)
def test_merging_is_associative_and_counts_everything(a, b, c):
    one = merge([merge([columns(a), columns(b)]), columns(c)])
    other = merge([columns(a), merge([columns(b), columns(c)])])
    assert content(one) == content(other) == content(columns([*a, *b, *c]))


@given(batches, batches)
def test_merging_is_commutative(a, b):
    assert content(merge([columns(a), columns(b)])) == content(merge([columns(b), columns(a)]))


@given(batches)
def test_nothing_is_neutral(a):
    assert content(merge([columns(a), columns([])])) == content(columns(a)) == content(merge([columns(a)]))


def test_merging_nothing_gives_empty_columns():
    empty = merge([])
    assert content(empty) == {}
    assert empty.offset.tolist() == [0]


@given(batches)
def test_histograms_hold_the_weight_of_their_rows(a):
    of = columns(a)
    for i in range(len(of.second)):
        assert of.bucket_weight[of.offset[i] : of.offset[i + 1]].sum() == pytest.approx(of.weight[i])
    assert of.second.dtype == np.int64
    assert of.key.dtype == of.bucket.dtype == np.int32
