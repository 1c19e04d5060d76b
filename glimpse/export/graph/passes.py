"""The same numbers from fewer nodes.

At a batch of one a small model spends as much time between its matrix products as in them: a node costs 0.3 to 0.7
microseconds, whatever it does. So what can be brought into a product's weights, or be added by the product itself, is.
"""

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from glimpse.contract.tensors import GLIMPSE
from glimpse.export.graph.fragment import Fragment


def simplify(piece: Fragment, unit: float) -> None:
    """Change a piece in place, so that it computes the same with fewer nodes.

    Args:
        piece: A hard model's step.
        unit: What the pixels that it will be given have to be multiplied by to lie in [0, 1].
    """
    take_in_scaling(piece, unit)
    split_gates(piece)
    add_in_products(piece)
    for node in [node for node in piece.nodes if node.op_type == "Identity"]:
        if node.output[0] not in piece.outputs:
            _replace(piece, node.output[0], node.input[0])
            piece.nodes.remove(node)
    # What nobody reads any more is not stored.
    read = {name for node in piece.nodes for name in node.input}
    piece.weights = {name: tensor for name, tensor in piece.weights.items() if name in read}


def take_in_scaling(piece: Fragment, unit: float) -> None:
    """Bring the unit of the pixels, their mean and their standard deviation into the first products' weights.

    Where a convolution comes first, whose border is padded with the mean, they stay; the unit is then multiplied with.

    Args:
        piece: Its first nodes are ``(glimpse - mean) / std``.
        unit: See :func:`simplify`.
    """
    first = _first_nodes(piece)
    if first is None:
        if unit != 1:
            scaled = f"{GLIMPSE}_in_unit"
            for node in piece.readers_of(GLIMPSE):
                node.input[list(node.input).index(GLIMPSE)] = scaled
            unit_name = piece.store(f"{GLIMPSE}_unit", np.float32(unit).reshape(1))
            piece.nodes.insert(0, helper.make_node("Mul", [GLIMPSE, unit_name], [scaled]))
        return
    subtract, divide, flattened, products = first
    mean, std = (np.asarray(piece.array(node.input[1]), np.float64) for node in (subtract, divide))
    shape = piece.glimpse_shape
    slope = np.broadcast_to(unit / std, shape).reshape(-1)
    offset = np.broadcast_to(-mean / std, shape).reshape(-1)
    for product in products:
        weight = _matrix(piece, product).astype(np.float64)
        bias = piece.array(product.input[2]).astype(np.float64)
        _set_matrix(piece, product, (weight * slope[:, None]).astype(np.float32))
        product.input[2] = piece.store(f"{product.input[2]}_scaled", (bias + offset @ weight).astype(np.float32))
    flattened.input[0] = GLIMPSE
    piece.nodes.remove(subtract)
    piece.nodes.remove(divide)
    piece.flattens = True


def split_gates(piece: Fragment) -> None:
    """Compute a GRU's gates by products that add to one another.

    Of ``r, z = sigmoid(W x + U h + b)`` both come from one product that adds to another, and of ``n = tanh(V x + c +
    r * (Q h + d))`` the product adds to the rest; torch computes both products for all three and adds afterwards.
    """
    for tanh in [node for node in piece.nodes if node.op_type == "Tanh"]:
        found = _gru(piece, tanh)
        if found:
            _rewrite_gru(piece, *found)


def add_in_products(piece: Fragment) -> None:
    """Have a product add what is added to it afterwards.

    Of two products that are added, the later one adds the earlier: the first state is one for all images of a batch,
    and a product may add what has fewer rows than it, not more.
    """
    for add in [node for node in piece.nodes if node.op_type == "Add"]:
        writers = [(piece.writer_of(name), name) for name in add.input]
        products = [(node, name) for node, name in writers if node is not None and _is_free(piece, node)]
        products.sort(key=lambda found: piece.nodes.index(found[0]))
        if not products:
            continue
        product, name = products[-1]
        added = next(other for other in add.input if other != name)
        if len(product.input) == 3:
            if len(products) < 2 or not all(_has_constant_bias(piece, node) for node, _ in products):
                continue
            inner = products[0][0]
            both = piece.array(product.input[2]) + piece.array(inner.input[2])
            inner.input[2] = piece.store(f"{inner.input[2]}_of_both", both)
            product.input[2] = added
        elif added in piece.weights:
            continue
        else:
            product.input.append(added)
        product.output[0] = add.output[0]
        piece.nodes.remove(product)
        piece.nodes.insert(piece.nodes.index(add), product)
        piece.nodes.remove(add)


def _is_free(piece: Fragment, node: onnx.NodeProto) -> bool:
    """Whether it is a product that one other node reads alone."""
    return node.op_type == "Gemm" and piece.reader_of(node.output[0]) is not None


def _first_nodes(
    piece: Fragment,
) -> tuple[onnx.NodeProto, onnx.NodeProto, onnx.NodeProto, list[onnx.NodeProto]] | None:
    """The nodes that subtract the mean, divide by the deviation and flatten, and the products that read the result."""
    nodes = []
    name = GLIMPSE
    for kind in ("Sub", "Div", "Reshape"):
        node = piece.reader_of(name)
        if node is None or node.op_type != kind:
            return None
        nodes.append(node)
        name = node.output[0]
    products = piece.readers_of(name)
    if not all(node.op_type == "Gemm" and _has_constant_bias(piece, node) for node in products):
        return None
    subtract, divide, flattened = nodes
    return subtract, divide, flattened, products


def _gru(piece: Fragment, tanh: onnx.NodeProto) -> tuple[onnx.NodeProto, ...] | None:
    """The products of a GRU and the nodes that its new ones replace, where a tanh is that of one."""
    add = piece.writer_of(tanh.input[0])
    scaled = add and next(
        (writer for name in add.input if (writer := piece.writer_of(name)) and writer.op_type == "Mul"), None
    )
    if add is None or add.op_type != "Add" or not scaled:
        return None
    parts = [piece.writer_of(name) for name in (*add.input, *scaled.input)]
    splits = [part for part in parts if part is not None and part.op_type == "Split" and len(part.output) == 3]
    if len(splits) != 2:
        return None
    of_input, of_state = splits
    products = [piece.writer_of(split.input[0]) for split in splits]
    gates = [piece.reader_of(of_input.output[gate]) for gate in (0, 1)]
    sigmoids = [piece.reader_of(gate.output[0]) if gate is not None else None for gate in gates]
    found = [*products, of_input, of_state, *gates, *sigmoids, scaled, add]
    kinds = ["Gemm", "Gemm", "Split", "Split", "Add", "Add", "Sigmoid", "Sigmoid", "Mul", "Add"]
    if [node.op_type if node is not None else "" for node in found] != kinds:
        return None
    in_place = add.input[0] == of_input.output[2] or add.input[1] == of_input.output[2]
    return tuple(node for node in found if node is not None) if in_place else None


def _rewrite_gru(
    piece: Fragment,
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
    weight, recurrent = (_matrix(piece, product) for product in (of_input, of_state))
    bias, recurrent_bias = (piece.array(product.input[2]) for product in (of_input, of_state))
    gates = 2 * (weight.shape[1] // 3)

    def stored(part: str, array: npt.NDArray[np.float32]) -> str:
        return piece.store(f"{name}_{part}", np.ascontiguousarray(array))

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
            [both, piece.store(f"{name}_halves", np.array([gates // 2] * 2))],
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
    # All of it is computed where its last part was: by then the input and the state are known.
    place = piece.nodes.index(add)
    piece.nodes[place:place] = made
    for node in (of_input, of_state, split_input, split_state, add_reset, add_update, reset, update, scaled, add):
        piece.nodes.remove(node)


def _has_constant_bias(piece: Fragment, product: onnx.NodeProto) -> bool:
    return len(product.input) == 3 and product.input[2] in piece.weights


def _matrix(piece: Fragment, product: onnx.NodeProto) -> npt.NDArray[np.float32]:
    """A product's weight, inputs first."""
    weight: npt.NDArray[np.float32] = piece.array(product.input[1])
    return weight.T if _is_transposed(product) else weight


def _set_matrix(piece: Fragment, product: onnx.NodeProto, weight: npt.NDArray[np.float32]) -> None:
    """Give a product another weight, inputs first."""
    stored = np.ascontiguousarray(weight.T if _is_transposed(product) else weight)
    product.input[1] = piece.store(f"{product.input[1]}_scaled", stored)


def _is_transposed(product: onnx.NodeProto) -> bool:
    return any(attribute.name == "transB" and attribute.i for attribute in product.attribute)


def _replace(piece: Fragment, old: str, new: str) -> None:
    for node in piece.nodes:
        for place, name in enumerate(node.input):
            if name == old:
                node.input[place] = new
