"""The version of striate, written once (pyproject.toml repeats it; a test compares them)."""

from __future__ import annotations

__version__ = "0.1.0"
