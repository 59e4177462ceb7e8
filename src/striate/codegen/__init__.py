"""Machine code from Python: a staged vector-IR builder, CPU targets, compiling, the cache."""
