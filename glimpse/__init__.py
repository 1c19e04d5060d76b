"""Glimpse: an image classifier that looks.

A recurrent model moves a small multi-scale retina over an image, a few glimpses at a time, and returns the class, the
locations of its glimpses, and its confidence after each. Importing this package imports no heavy package. The parts
that train need the ``train`` extra; the parts that only run an exported model need neither torch nor Lightning.
"""

import os

# From 1.32 on, onnxruntime sends usage data and writes files to the home directory for that, unless this is set before
# it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
