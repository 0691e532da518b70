"""Statistics of columns, beside scipy's, sklearn's and known values."""

from __future__ import annotations

import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import mutual_info_score

from shared.exploring.statistics import Dependence, _Shuffled, categories_of, dependences, numbers_of
from shared.personal import masked, personal_data

rng = np.random.default_rng(0)


def measured(found: list[Dependence], measure: str) -> Dependence:
    return next(each for each in found if each.measure == measure)


def test_numbers_are_described_as_pandas_describes_them():
    values = [*rng.normal(10, 2, 500).tolist(), None, 99.0]
    found, expected = numbers_of(values), pandas.Series(values, dtype=float).describe()
    assert found is not None
    assert (found.count, found.missing) == (expected["count"], 1)
    assert (found.mean, found.deviation) == pytest.approx((expected["mean"], expected["std"]))
    assert found.quartiles == pytest.approx(tuple(expected[["min", "25%", "50%", "75%", "max"]]))
    assert sum(found.counts) == found.count
    assert found.outliers[0] == 501
    assert numbers_of([None]) is None


def test_categories_are_counted_and_missing_ones_told():
    found = categories_of(["a", "b", "a", None])
    assert (found.counts, found.missing, found.distinct, found.imbalance) == ([("a", 2), ("b", 1)], 1, 2, 2.0)


def test_dependent_columns_are_found_and_independent_ones_are_not():
    x = rng.normal(size=400)
    kind = rng.choice(["a", "b", "c"], 400)
    found = dependences(
        {"x": x.tolist(), "y": (2 * x + rng.normal(size=400)).tolist(), "cube": (x**3).tolist()},
        {"kind": kind.tolist(), "same": [f"is {k}" for k in kind], "other": rng.choice(["u", "v"], 400).tolist()},
    )
    by_pair = {(each.one, each.other, each.measure): each for each in found}
    assert by_pair["x", "y", "Pearson"].value == pytest.approx(2 / 5**0.5, abs=0.05)
    assert by_pair["x", "cube", "Spearman"].value == pytest.approx(1)
    assert by_pair["kind", "same", "Cramér's V"].value == pytest.approx(1)
    assert by_pair["kind", "same", "mutual information"].value == pytest.approx(1, abs=0.01)
    assert by_pair["kind", "other", "Cramér's V"].value < 0.1
    assert by_pair["kind", "other", "mutual information"].p > 0.01
    assert by_pair["x", "other", "mutual information"].value < 0.03
    assert all(each.n == 400 for each in found)


def test_mutual_information_is_sklearns_less_its_bias():
    first, second = rng.choice(list("abcd"), 300), rng.choice(list("uv"), 300)
    found = measured(dependences({}, {"a": first.tolist(), "b": second.tolist()}), "mutual information")
    shares = np.unique(second, return_counts=True)[1] / 300
    least = -(shares * np.log(shares)).sum()
    expected = max(0.0, mutual_info_score(first, second) - 3 / 600) / least
    assert found.value == pytest.approx(expected)


def test_rows_that_lack_a_value_do_not_count():
    found = dependences({"x": [1.0, 2.0, None, *range(20)], "y": [None, 5.0, 1.0, *range(20)]}, {})
    assert measured(found, "Pearson").n == 21


def test_of_many_pairs_by_chance_few_are_called_sure():
    columns = {f"c{i}": rng.normal(size=60).tolist() for i in range(12)}
    assert sum(each.p < 0.05 for each in dependences(columns, {})) <= 8


def test_p_of_sparse_tables_is_that_of_chance():
    own = np.random.default_rng(7)
    small = 0
    for _ in range(20):
        columns = {"date": own.integers(0, 136, 300), "kind": own.integers(0, 6, 300)}
        found = dependences({}, {name: codes.astype(str).tolist() for name, codes in columns.items()})
        assert {each.n for each in found} == {300}
        small += min(each.p for each in found) < 0.05
    assert small <= 3
    same = own.integers(0, 40, 60).astype(str).tolist()
    assert measured(dependences({}, {"a": same[:30] * 2, "b": same[:30] * 2}), "Cramér's V").p < 0.001


def test_p_of_a_permutation_test_is_scipys():
    own = np.random.default_rng(3)
    first = own.integers(0, 10, 60)
    second = np.where(own.random(60) < 0.25, first, own.integers(0, 10, 60))
    table = pandas.crosstab(first, second).to_numpy()
    expected = stats.chi2_contingency(
        table, correction=False, method=stats.PermutationMethod(n_resamples=4_999, rng=own)
    ).pvalue
    assert _Shuffled(pairs=1).p_values(first, second)[0] == pytest.approx(expected, abs=0.02)


def test_keys_and_near_constant_numbers_are_left_out():
    found = dependences(
        {"x": list(range(100)), "almost": [0.0] * 95 + [1, 2, 3, 4, 5]},
        {"key": [str(i) for i in range(100)], "kind": list("ab") * 50},
    )
    assert {name for each in found for name in (each.one, each.other)} == {"x", "almost", "kind"}
    assert "Pearson" not in {each.measure for each in found}


@given(st.lists(st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)), max_size=40))
def test_no_column_of_numbers_breaks_it(values: list[float | None]):
    found = numbers_of(values)
    assert found is None or found.count + found.missing == len(values)


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("ada.lovelace+x@mail.example.co.uk", ["e-mail"]),
        ("DE89 3704 0044 0532 0130 00", ["account"]),
        ("DE89 3704 0044 0532 0130 01", []),
        ("4111-1111-1111-1111", ["card"]),
        ("order 1234567890123456", []),
        ("call (555) 123-4567 or 030 1234567", ["telephone", "telephone"]),
        ("from 10.0.0.255 to 300.1.1.1", ["ip"]),
        ("on 2026-11-30 at 12:30, 1,000,000 times, version 1.2.3", []),
        ("2026-01-01 2026-02-02", []),
        ("a@b and @home", []),
    ],
)
def test_personal_data_is_known_by_its_form_and_check_digits(text: str, kinds: list[str]):
    assert [each.kind for each in personal_data(text)] == kinds


@given(st.text(max_size=300))
def test_masking_leaves_nothing_to_mask(text: str):
    assert not [each for each in personal_data(masked(text)) if each.kind in ("e-mail", "card")]
