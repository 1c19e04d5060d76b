"""Transfer from other networks: pretrained backbones, and a teacher whose beliefs are imitated."""
