"""ONNX graphs of models: the step comes from torch, what is around it is put together here, node by node."""
