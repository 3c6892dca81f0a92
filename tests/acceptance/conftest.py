"""What acceptance tests start from: a product that has done nothing yet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.product import Product


@pytest.fixture
def product(tmp_path: Path) -> Iterator[Product]:
    """A fresh home and an empty project; everything started in it is stopped at the end."""
    product = Product(tmp_path)
    yield product
    product.close()
