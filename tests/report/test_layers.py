import numpy as np
import pytest

import bitfold
from bitfold.bench.models import input_shape, untrained
from bitfold.bench.shapes import Shape, build
from bitfold.report.layers import layers


def rows_of(graph, x):
    net = bitfold.load(graph)
    return layers(graph, net.profile(x, repeats=1), {k.layer: k.reason for k in net.kernels})


@pytest.mark.parametrize("method", ["float", "bireal", "adabin"])
def test_every_stored_byte_belongs_to_one_layer(method):
    import torch

    shape = input_shape("digits_cnn")
    graph = bitfold.export(untrained("digits_cnn", method), torch.zeros(1, *shape))
    rows = rows_of(graph, np.zeros((1, *shape), np.float32))
    assert sum(row.size_bytes for row in rows) == sum(c.data.nbytes for c in graph.constants.values())
    assert rows[0].name == "(input)" and rows[-1].name == "(output)"


def test_fused_constants_count_with_the_product_and_bits_are_named():
    case = build(Shape("conv", 8, 8, 6, 3, blocks=1))
    rows = {row.name: row for row in rows_of(case.graph, case.x)}
    product = rows["product0"]
    assert product.bits == "1 \N{MULTIPLICATION SIGN} 1" and product.op == "Conv+Add+TwoSlope"
    assert product.parameters == 8 * 8 * 9 + 3 * 8  # weights; mul, bias and slopes
    assert product.reason and product.latency_us >= 0
    head = build(Shape("head", 16, 10, 1, 0, weight="float", act="float"))
    assert {row.name: row for row in rows_of(head.graph, head.x)}["product0"].bits == "32 \N{MULTIPLICATION SIGN} 32"
