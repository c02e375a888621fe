import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shipway.bundles.formats.port import Sample
from shipway.bundles.profile import profile_json, profile_of
from shipway.core.profile import MAX_BINS, ColumnKind, Profile, column_profile, histogram_of


def test_profile_of_a_small_column_is_worked_out_by_hand():
    profile = column_profile(np.array([1.0, 2.0, 3.0, 4.0, np.nan]))

    assert (profile.count, profile.missing, profile.missing_rate) == (5, 1, 0.2)
    assert profile.numeric is not None
    assert profile.numeric.minimum == 1.0
    assert profile.numeric.maximum == 4.0
    assert profile.numeric.mean == 2.5
    assert profile.numeric.std == pytest.approx(1.25**0.5)
    assert profile.numeric.quantiles["50"] == 2.5
    assert profile.numeric.histogram.edges == (1.0, 2.0, 3.0, 4.0)
    assert profile.numeric.histogram.counts == (1, 1, 2)


def test_profile_of_a_constant_column_has_one_bin():
    profile = column_profile(np.full(7, 3, dtype=np.int64))

    assert profile.numeric is not None
    assert profile.numeric.histogram.edges == (3.0, 3.0)
    assert profile.numeric.histogram.counts == (7,)
    assert profile.numeric.std == 0.0


def test_profile_of_ties_merges_bins():
    assert histogram_of(np.array([1.0, 1.0, 1.0, 9.0])).edges == (1.0, 9.0)


def test_profile_leaves_infinities_out_of_the_statistics_and_counts_them():
    profile = column_profile(np.array([1.0, np.inf, -np.inf, 2.0]))

    assert profile.numeric is not None
    assert profile.numeric.infinite == 2
    assert profile.numeric.maximum == 2.0


def test_profile_of_a_column_without_values_has_no_statistics():
    profile = column_profile(np.array([np.nan, np.nan]))

    assert profile.numeric is None
    assert profile.missing_rate == 1.0


@given(hnp.arrays(np.float64, st.integers(1, 200)))
def test_profile_histogram_counts_every_finite_value_in_at_most_20_bins(values):
    profile = column_profile(values)
    finite = int(np.isfinite(values).sum())

    if profile.numeric is None:
        assert finite == 0
        return
    histogram = profile.numeric.histogram
    assert sum(histogram.counts) == finite
    assert 1 <= len(histogram.counts) <= MAX_BINS
    assert len(histogram.edges) == len(histogram.counts) + 1
    assert list(histogram.edges) == sorted(histogram.edges)


def test_profile_keeps_50_categories_and_counts_the_others():
    texts = [f"c{index:02}" for index in range(60)] + ["c00", None]
    profile = column_profile(np.array(texts, dtype=object))

    assert profile.kind is ColumnKind.CATEGORICAL
    assert profile.categories is not None
    assert list(profile.categories.items())[:2] == [("c00", 2), ("c01", 1)]
    assert len(profile.categories) == 50
    assert (profile.other, profile.distinct, profile.missing) == (10, 60, 1)


def test_profile_counts_booleans():
    profile = column_profile(np.array([True, False, True]))

    assert profile.categories == {"false": 1, "true": 2}


def test_profile_of_a_matrix_is_by_feature():
    profile = profile_of(Sample(inputs={"X": np.arange(6.0).reshape(3, 2)}, is_table=False))

    assert list(profile.columns) == ["X[0]", "X[1]"]
    assert profile.rows == 3


def test_profile_of_an_image_batch_is_one_column():
    profile = profile_of(Sample(inputs={"X": np.zeros((3, 4, 4))}, is_table=False))

    assert profile.columns["X"].count == 48


def test_profile_json_does_not_depend_on_row_order_and_reads_back():
    texts = np.array(["b", "a", "c", "a"], dtype=object)
    numbers = np.array([4, 3, 2, 1])
    forward = Sample(inputs={"t": texts, "n": numbers}, is_table=True)
    backward = Sample(inputs={"t": texts[::-1], "n": numbers[::-1]}, is_table=True)

    content = profile_json(profile_of(forward))

    assert content == profile_json(profile_of(backward))
    assert msgspec.json.decode(content, type=Profile) == profile_of(forward)
