"""Kernel generators, one family a file. They may not invent semantics: formula/ says what is meant.

Two layouts of activations are served. *Batch in lanes*: a group of `width` samples, each element
a vector of the samples' values; a value of per-sample shape (c, h, w) is c·h·w vectors in C order.
*Channels in lanes* (`*_channels`): one sample, `width` neighbouring channels a vector.
"""
