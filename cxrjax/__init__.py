"""Chest X-ray classification and generation in pure-functional JAX."""

__version__ = "0.1.0"
