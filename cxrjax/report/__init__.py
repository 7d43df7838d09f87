"""Figures and one self-contained HTML page from a finished run's workdir; needs no jax and no network."""

from cxrjax.report.page import write
from cxrjax.report.terminal import rich_tables

__all__ = ["rich_tables", "write"]
