"""ONNX graphs of models: torch exports the step, and the graph around it is assembled here, node by node."""
