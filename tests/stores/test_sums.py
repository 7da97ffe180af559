"""Sums: a row for each set of labels, to be added to in place."""

from propylon.stores.sums import LocalSums


def test_a_row_is_the_same_each_time() -> None:
    """It starts with zeros; what was added is in it whoever looks it up."""
    sums = LocalSums()
    assert list(sums.rows()) == []
    row = sums.row(("a", "GET"), 3)
    assert row == [0.0, 0.0, 0.0]
    row[1] += 2
    sums.row(("b", "GET"), 3)[0] += 1
    assert sums.row(("a", "GET"), 3) is row
    assert dict(sums.rows()) == {("a", "GET"): [0.0, 2.0, 0.0], ("b", "GET"): [1.0, 0.0, 0.0]}
