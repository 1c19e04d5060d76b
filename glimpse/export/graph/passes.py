"""Passes over a fragment that compute the same numbers with fewer nodes.

With a single image, a small model spends as much time between its matrix products as in them: each node costs 0.3 to
0.7 microseconds, whatever it computes. So scalings are folded into the weights of a product, and additions into the
product itself.
"""

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from glimpse.contract.tensors import GLIMPSE
from glimpse.export.graph.fragment import Fragment


def simplify(fragment: Fragment, unit: float) -> None:
    """Change a fragment in place, so that it computes the same with fewer nodes.

    Args:
        fragment: A hard model's step.
        unit: The factor that brings the pixels of its input to [0, 1].
    """
    fold_scaling(fragment, unit)
    split_gru_gates(fragment)
    fuse_additions(fragment)
    for node in [node for node in fragment.nodes if node.op_type == "Identity"]:
        if node.output[0] not in fragment.outputs:
            _replace(fragment, node.output[0], node.input[0])
            fragment.nodes.remove(node)
    # Weights that no node reads any more are not stored.
    read = {name for node in fragment.nodes for name in node.input}
    fragment.weights = {name: tensor for name, tensor in fragment.weights.items() if name in read}


def fold_scaling(fragment: Fragment, unit: float) -> None:
    """Fold the unit of the pixels, their mean and their standard deviation into the weights of the first products.

    A convolution pads its border with the mean. Where one comes first, mean and deviation stay, and a node multiplies
    by the unit.

    Args:
        fragment: Its first nodes are ``(glimpse - mean) / std``.
        unit: The factor that brings the pixels of its input to [0, 1].
    """
    first = _first_nodes(fragment)
    if first is None:
        if unit != 1:
            scaled = f"{GLIMPSE}_in_unit"
            for node in fragment.readers_of(GLIMPSE):
                node.input[list(node.input).index(GLIMPSE)] = scaled
            unit_name = fragment.store(f"{GLIMPSE}_unit", np.float32(unit).reshape(1))
            fragment.nodes.insert(0, helper.make_node("Mul", [GLIMPSE, unit_name], [scaled]))
        return
    subtract, divide, flattened, products = first
    mean, std = (np.asarray(fragment.array(node.input[1]), np.float64) for node in (subtract, divide))
    shape = fragment.glimpse_shape
    slope = np.broadcast_to(unit / std, shape).reshape(-1)
    offset = np.broadcast_to(-mean / std, shape).reshape(-1)
    for product in products:
        weight = _matrix(fragment, product).astype(np.float64)
        bias = fragment.array(product.input[2]).astype(np.float64)
        _set_matrix(fragment, product, (weight * slope[:, None]).astype(np.float32))
        product.input[2] = fragment.store(f"{product.input[2]}_scaled", (bias + offset @ weight).astype(np.float32))
    flattened.input[0] = GLIMPSE
    fragment.nodes.remove(subtract)
    fragment.nodes.remove(divide)
    fragment.flattens = True


def split_gru_gates(fragment: Fragment) -> None:
    """Compute a GRU's gates by products that add to one another.

    For ``r, z = sigmoid(W x + U h + b)`` one product is added within the other, and for ``n = tanh(V x + c + r * (Q h +
    d))`` the product ``V x`` adds the rest. torch computes both products for all three, and adds afterwards.
    """
    for tanh in [node for node in fragment.nodes if node.op_type == "Tanh"]:
        found = _gru(fragment, tanh)
        if found:
            _rewrite_gru(fragment, *found)


def fuse_additions(fragment: Fragment) -> None:
    """Let a product (``Gemm``) add the value that a following ``Add`` adds to it.

    Of two products that are added, the later one adds the earlier one. The first state has one row for all images of a
    batch, and a product may add a value with fewer rows than its own, not with more.
    """
    for add in [node for node in fragment.nodes if node.op_type == "Add"]:
        writers = [(fragment.writer_of(name), name) for name in add.input]
        products = [(node, name) for node, name in writers if node is not None and _is_free(fragment, node)]
        products.sort(key=lambda found: fragment.nodes.index(found[0]))
        if not products:
            continue
        product, name = products[-1]
        added = next(other for other in add.input if other != name)
        if len(product.input) == 3:
            if len(products) < 2 or not all(_has_constant_bias(fragment, node) for node, _ in products):
                continue
            inner = products[0][0]
            both = fragment.array(product.input[2]) + fragment.array(inner.input[2])
            inner.input[2] = fragment.store(f"{inner.input[2]}_of_both", both)
            product.input[2] = added
        elif added in fragment.weights:
            continue
        else:
            product.input.append(added)
        product.output[0] = add.output[0]
        fragment.nodes.remove(product)
        fragment.nodes.insert(fragment.nodes.index(add), product)
        fragment.nodes.remove(add)


def _is_free(fragment: Fragment, node: onnx.NodeProto) -> bool:
    """Whether a node is a product whose result exactly one other node reads."""
    return node.op_type == "Gemm" and fragment.reader_of(node.output[0]) is not None


def _first_nodes(
    fragment: Fragment,
) -> tuple[onnx.NodeProto, onnx.NodeProto, onnx.NodeProto, list[onnx.NodeProto]] | None:
    """The nodes that subtract the mean, divide by the deviation and flatten, and the products that read the result."""
    nodes = []
    name = GLIMPSE
    for kind in ("Sub", "Div", "Reshape"):
        node = fragment.reader_of(name)
        if node is None or node.op_type != kind:
            return None
        nodes.append(node)
        name = node.output[0]
    products = fragment.readers_of(name)
    if not all(node.op_type == "Gemm" and _has_constant_bias(fragment, node) for node in products):
        return None
    subtract, divide, flattened = nodes
    return subtract, divide, flattened, products


def _gru(fragment: Fragment, tanh: onnx.NodeProto) -> tuple[onnx.NodeProto, ...] | None:
    """The products of a GRU and the nodes between them and its tanh; None where the tanh belongs to no GRU."""
    add = fragment.writer_of(tanh.input[0])
    scaled = add and next(
        (writer for name in add.input if (writer := fragment.writer_of(name)) and writer.op_type == "Mul"), None
    )
    if add is None or add.op_type != "Add" or not scaled:
        return None
    parts = [fragment.writer_of(name) for name in (*add.input, *scaled.input)]
    splits = [part for part in parts if part is not None and part.op_type == "Split" and len(part.output) == 3]
    if len(splits) != 2:
        return None
    of_input, of_state = splits
    products = [fragment.writer_of(split.input[0]) for split in splits]
    gates = [fragment.reader_of(of_input.output[gate]) for gate in (0, 1)]
    sigmoids = [fragment.reader_of(gate.output[0]) if gate is not None else None for gate in gates]
    found = [*products, of_input, of_state, *gates, *sigmoids, scaled, add]
    kinds = ["Gemm", "Gemm", "Split", "Split", "Add", "Add", "Sigmoid", "Sigmoid", "Mul", "Add"]
    if [node.op_type if node is not None else "" for node in found] != kinds:
        return None
    in_place = add.input[0] == of_input.output[2] or add.input[1] == of_input.output[2]
    return tuple(node for node in found if node is not None) if in_place else None


def _rewrite_gru(
    fragment: Fragment,
    of_input: onnx.NodeProto,
    of_state: onnx.NodeProto,
    split_input: onnx.NodeProto,
    split_state: onnx.NodeProto,
    add_reset: onnx.NodeProto,
    add_update: onnx.NodeProto,
    reset: onnx.NodeProto,
    update: onnx.NodeProto,
    scaled: onnx.NodeProto,
    add: onnx.NodeProto,
) -> None:
    name = of_input.output[0]
    weight, recurrent = (_matrix(fragment, product) for product in (of_input, of_state))
    bias, recurrent_bias = (fragment.array(product.input[2]) for product in (of_input, of_state))
    gates = 2 * (weight.shape[1] // 3)

    def stored(part: str, array: npt.NDArray[np.float32]) -> str:
        return fragment.store(f"{name}_{part}", np.ascontiguousarray(array))

    inner, outer, hidden = f"{name}_gates_of_state", f"{name}_gates", f"{name}_new_of_state"
    both, shifted = f"{name}_gates_open", f"{name}_new_shifted"
    inputs, state = of_input.input[0], of_state.input[0]
    made = [
        helper.make_node(
            "Gemm",
            [state, stored("state_gates", recurrent[:, :gates]), stored("bias_gates", (bias + recurrent_bias)[:gates])],
            [inner],
        ),
        helper.make_node("Gemm", [inputs, stored("input_gates", weight[:, :gates]), inner], [outer]),
        helper.make_node("Sigmoid", [outer], [both]),
        helper.make_node(
            "Split",
            [both, fragment.store(f"{name}_halves", np.array([gates // 2] * 2))],
            [reset.output[0], update.output[0]],
            axis=1,
        ),
        helper.make_node(
            "Gemm",
            [state, stored("state_new", recurrent[:, gates:]), stored("bias_state_new", recurrent_bias[gates:])],
            [hidden],
        ),
        helper.make_node("Mul", [hidden, reset.output[0]], [scaled.output[0]]),
        helper.make_node("Add", [scaled.output[0], stored("bias_new", bias[gates:])], [shifted]),
        helper.make_node("Gemm", [inputs, stored("input_new", weight[:, gates:]), shifted], [add.output[0]]),
    ]
    # The new nodes stand where the last of the old ones stood: the input and the state are computed before it.
    index = fragment.nodes.index(add)
    fragment.nodes[index:index] = made
    for node in (of_input, of_state, split_input, split_state, add_reset, add_update, reset, update, scaled, add):
        fragment.nodes.remove(node)


def _has_constant_bias(fragment: Fragment, product: onnx.NodeProto) -> bool:
    return len(product.input) == 3 and product.input[2] in fragment.weights


def _matrix(fragment: Fragment, product: onnx.NodeProto) -> npt.NDArray[np.float32]:
    """A product's weight, (inputs, outputs)."""
    weight: npt.NDArray[np.float32] = fragment.array(product.input[1])
    return weight.T if _is_transposed(product) else weight


def _set_matrix(fragment: Fragment, product: onnx.NodeProto, weight: npt.NDArray[np.float32]) -> None:
    """Give a product another weight, (inputs, outputs)."""
    stored = np.ascontiguousarray(weight.T if _is_transposed(product) else weight)
    product.input[1] = fragment.store(f"{product.input[1]}_scaled", stored)


def _is_transposed(product: onnx.NodeProto) -> bool:
    return any(attribute.name == "transB" and attribute.i for attribute in product.attribute)


def _replace(fragment: Fragment, old: str, new: str) -> None:
    for node in fragment.nodes:
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new
