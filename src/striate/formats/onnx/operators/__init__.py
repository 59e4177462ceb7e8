"""Handlers of ONNX operators, one family a file."""
