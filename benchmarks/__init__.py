"""Measurements, run by `python -m benchmarks`: correct first, then timed beside the peers.

Not part of the package, and not tests of speed that fail: the numbers are written down, with what
they were to reach.
"""
