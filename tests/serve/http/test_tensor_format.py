import subprocess
import sys

import numpy as np
import pytest
import tritonclient.utils as triton

from glimpse_serve.http.tensor_format import DATATYPES


@pytest.mark.parametrize("name", list(DATATYPES))
def test_data_types_are_those_of_the_protocol_in_little_endian(name):
    dtype = DATATYPES[name]
    assert triton.triton_to_np_dtype(name) == dtype.type
    assert dtype.newbyteorder("<") == dtype
    assert np.array([1], dtype).tobytes()[0] == (0 if name == "FP32" else 1)


@pytest.mark.child
def test_it_needs_neither_the_runtime_nor_the_server():
    module, heavy = "glimpse_serve.http.tensor_format", {"onnxruntime", "starlette", "orjson"}
    program = f"import sys, {module}; print(*{heavy} & sys.modules.keys())"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
