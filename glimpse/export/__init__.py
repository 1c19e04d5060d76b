"""Export: one ONNX file out of a trained model, compared with it, and handed to a model server."""
