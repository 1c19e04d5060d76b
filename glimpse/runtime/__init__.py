"""Running exported models with onnxruntime and numpy. No torch."""
