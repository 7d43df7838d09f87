"""The cases of `bench.py`, in the order in which they are measured and stand in the table."""

from __future__ import annotations

from benches import from_files, growth, inputs, kernels, networks, packages, papers, systems
from benches.timing import Case

CASES: dict[str, Case] = {
    **{name: case for name, case in kernels.CASES.items() if name == "matmul"},
    **networks.CASES, **systems.CASES, **papers.CASES, **inputs.CASES, **from_files.CASES, **packages.CASES,
    **growth.CASES, **kernels.CASES,
}  # fmt: skip
