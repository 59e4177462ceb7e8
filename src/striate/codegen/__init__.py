"""Machine code from Python: a staged vector-IR builder, CPU targets, workers that compile, the cache."""
