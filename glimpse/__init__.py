"""Glimpse: an image classifier that looks.

A recurrent model moves a small multi-scale retina over an image, a few glimpses at a time, and says what it sees, where
it looked and how sure it was after each glimpse. Importing this package brings in nothing heavy; the parts that train
need the ``train`` extra, the parts that only run an exported model need neither torch nor Lightning.
"""

import os

# onnxruntime tells its makers who runs it, from 1.32 on, and keeps files at home for that, unless it is told not to
# before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
