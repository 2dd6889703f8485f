import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bitfold.ir.geometry import axis_classes, conv_classes, out_size, tap_counts, weight_sums
from bitfold.ir.ops import Conv

axes = st.tuples(st.integers(1, 12), st.integers(1, 5), st.integers(1, 4), st.integers(0, 6), st.integers(0, 6), st.integers(1, 4))


@given(axes)
def test_classes_list_the_valid_taps_of_every_position(axis):
    size, kernel, stride, before, _, dilation = axis
    count = out_size(*axis)
    if count < 1:
        return
    classes = axis_classes(*axis)
    assert len(classes.index) == count and classes.index.dtype == np.int32
    for o in range(count):
        valid = [k for k in range(kernel) if 0 <= o * stride - before + k * dilation < size]
        first, end = classes.taps[classes.index[o]]
        assert list(range(first, end)) == valid
    assert classes.counts.tolist() == [end - first for first, end in classes.taps]
    firsts = [int(np.flatnonzero(classes.index == c)[0]) for c in range(len(classes.taps))]
    assert firsts == sorted(firsts), "classes are numbered by their first position"
    assert len(set(classes.taps)) == len(classes.taps)


def test_out_size_counts_positions():
    for size, kernel, stride, before, after, dilation in [(5, 3, 2, 1, 0, 1), (7, 3, 1, 0, 0, 3), (2, 3, 1, 0, 0, 1), (1, 1, 3, 2, 2, 1)]:
        last = size + after - dilation * (kernel - 1) - 1
        assert max(0, out_size(size, kernel, stride, before, after, dilation)) == len(range(-before, last + 1, stride))


def test_three_by_three_with_padding_has_nine_classes():
    conv = Conv(name="c", output="y", x="x", weight="w", padding=(1, 1))
    rows, columns = conv_classes(conv, (4, 5), (3, 3))
    assert rows.taps == columns.taps == ((1, 3), (0, 3), (0, 2))
    assert rows.index.tolist() == [0, 1, 1, 2] and columns.index.tolist() == [0, 1, 1, 1, 2]
    assert tap_counts((8, 5, 3, 3), (4, 5), conv).tolist() == [[20, 30, 20], [30, 45, 30], [20, 30, 20]]


def test_weight_sums_are_the_convolution_of_ones(rng):
    conv = Conv(name="c", output="y", x="x", weight="w", padding=(2, 1), stride=(2, 1), dilation=(1, 2))
    weight = rng.integers(-4, 5, (3, 2, 3, 2))
    rows, columns = conv_classes(conv, (5, 6), (3, 2))
    sums = weight_sums(weight, (5, 6), conv)[:, rows.index][:, :, columns.index]
    for o, r, c in np.ndindex(sums.shape):
        expected = 0
        for i, kh, kw in np.ndindex(weight.shape[1:]):
            inside = 0 <= r * 2 - 2 + kh < 5 and 0 <= c - 1 + 2 * kw < 6
            expected += weight[o, i, kh, kw] if inside else 0
        assert sums[o, r, c] == expected
