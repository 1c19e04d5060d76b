"""Binary tensors of the Open Inference Protocol v2, as the service and its client exchange them.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md

Only numpy is imported, so that the client stays free of the server.
"""

from typing import Any

import numpy as np

DATATYPES: dict[str, np.dtype[Any]] = {"UINT8": np.dtype("<u1"), "INT64": np.dtype("<i8"), "FP32": np.dtype("<f4")}
"""Data types of the tensors, by their names in the protocol; little-endian."""
HEADER_LENGTH = "Inference-Header-Content-Length"
"""The header that gives the length of the JSON before the binary tensors."""
