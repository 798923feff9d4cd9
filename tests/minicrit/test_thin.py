"""A few rows times a weight: another order of the same product."""

import pytest
import torch

from minicrit.thin import product


@pytest.mark.parametrize("rows", [1, 2, 6, 7, 12, 13])
@pytest.mark.parametrize("shape", [(8, 8), (24, 8), (200, 8), (8, 24)])
def test_whatever_the_shape_it_is_the_product(rows, shape):
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, shape[1], generator=generator)
    weight = torch.randn(*shape, generator=generator)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        found = product(x.to(dtype), weight.to(dtype))
        assert found.is_contiguous()
        tolerance = 0.2 if dtype == torch.bfloat16 else 1e-4
        torch.testing.assert_close(found.float(), x @ weight.t(), atol=tolerance, rtol=0.02)
