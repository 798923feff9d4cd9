"""The figures of docs/scaling.md follow from its formulas; nothing in it was measured."""

import re
from math import ceil
from pathlib import Path

import pytest

PAGE = (Path(__file__).parent.parent / "docs" / "scaling.md").read_text()
# Qwen2.5-7B: width, layers, width of keys and values, of the MLP, words.
H, LAYERS, KV, M, WORDS = 3584, 28, 512, 18944, 152064
LINEAR = [(H, H), (H, KV), (H, KV), (H, H), (H, M), (H, M), (M, H)]
PARAMETERS = LAYERS * (sum(a * b for a, b in LINEAR) + H + 2 * KV + 2 * H) + H + 2 * H * WORDS
NODES = (2, 4, 8, 16, 32, 64)
NETWORK = 0.7 * 50e9  # bytes a second and direction: 70 % of 400 Gb/s
PEAK, LATENCY, BUCKET = 989e12, 5e-6, 25e6


def lora(rank: int) -> int:
    return LAYERS * sum(rank * (a + b) for a, b in LINEAR)


def ring(size: float, nodes: int) -> float:
    """Bytes that each node sends for the sum of `size` bytes."""
    return 2 * (nodes - 1) / nodes * size


def rows(title: str) -> list[list[str]]:
    after = PAGE.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in after.splitlines() if line.startswith("| ") and "---" not in line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def test_sizes():
    assert PARAMETERS == 7_615_616_512
    assert f"{PARAMETERS:,}" in PAGE
    for rank in (16, 64):
        assert re.search(rf"rank {rank}\D+{lora(rank):,}", PAGE)


def test_adapters_on_many_nodes():
    found = rows("LoRA, one copy a node (DDP)")
    assert [int(row[0]) for row in found] == list(NODES)
    size = 4 * lora(64)  # float32
    compute = 4 * PARAMETERS * 16384 / (0.3 * PEAK)
    for nodes, row in zip(NODES, found, strict=True):
        seconds = ring(size, nodes) / NETWORK + 2 * (nodes - 1) * LATENCY * ceil(size / BUCKET)
        assert float(row[1]) == pytest.approx(ring(size, nodes) / 1e6, abs=0.6)
        assert float(row[2]) == pytest.approx(1e3 * seconds, abs=0.06)
        assert float(row[3].rstrip(" %")) == pytest.approx(
            100 * compute / (compute + seconds), abs=0.06
        )


def test_all_weights_on_many_nodes():
    found = rows("All weights, shared out (FSDP2)")
    assert [int(row[0]) for row in found] == list(NODES)
    for nodes, row in zip(NODES, found, strict=True):
        moved = 4 * (nodes - 1) / nodes * 2 * PARAMETERS  # the gradients in float32
        seconds = moved / NETWORK
        assert float(row[1]) == pytest.approx(16 * PARAMETERS / nodes / 1e9, abs=0.06)
        assert float(row[2]) == pytest.approx(moved / 1e9, abs=0.06)
        assert float(row[3]) == pytest.approx(seconds, abs=0.006)
        for cell, tokens in zip(row[4:], (16384, 65536), strict=True):
            compute = 6 * PARAMETERS * tokens / (0.4 * PEAK)
            assert float(cell.rstrip(" %")) == pytest.approx(
                100 * compute / (compute + seconds), abs=0.6
            )
