"""The parts of models: retina, encoders, recurrent core, heads, attention and its scores."""
