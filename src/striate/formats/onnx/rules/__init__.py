"""How operations are exported that ONNX has operators for, one family a file."""
