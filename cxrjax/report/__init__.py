"""Figures and one self-contained HTML page from a finished run's workdir; needs no jax and no network."""

from cxrjax.report.draw.png import save_synthetic_png
from cxrjax.report.page import write
from cxrjax.report.terminal import tables

__all__ = ["save_synthetic_png", "tables", "write"]
