"""ONNX: operators mapped on striate's operations, and a backend that runs models of them.

The package `onnx` (the extra `striate[onnx]`) is imported only when a model is read.
"""
