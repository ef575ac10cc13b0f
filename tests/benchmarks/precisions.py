"""Are 8-bit integers faster on this machine? A model beside the same network in floats.

    python -m tests.benchmarks.precisions [MODEL.onnx]

Takes a file that `python -m training --quantize` has made, and asks it and its twin in floats by
turns, one image on one thread. On processors without AVX-512 VNNI or AVX-VNNI the answer may be
another one than on those that have them.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from service.inference.classifier import Classifier
from service.settings import DEFAULT_MODEL
from training.export.quantisation import milliseconds

FLAGS = ("avx2", "avx_vnni", "avx512_vnni", "amx_int8")


def in_floats(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network without its pairs of QuantizeLinear and DequantizeLinear.

    The quantiser leaves rectifiers out where the least number that the integers hold is 0: they are
    put back. Raises ValueError where there are no such pairs.
    """
    twin: onnx.ModelProto = onnx.ModelProto.FromString(model.SerializeToString())
    graph = twin.graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in stored:
            value = _dequantised(node, stored)
            graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
        elif node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            is_rectified = node.op_type == "QuantizeLinear" and stored[node.input[2]] == 0
            kind = "Relu" if is_rectified else "Identity"
            nodes.append(onnx.helper.make_node(kind, node.input[:1], node.output))
        else:
            nodes.append(node)
    if len(nodes) == len(graph.node):
        raise ValueError("there is nothing in integers in it")
    del graph.node[:]
    graph.node.extend(nodes)
    return twin


def _dequantised(node: onnx.NodeProto, stored: dict[str, np.ndarray]) -> np.ndarray:
    value, scale, zero = (stored[name] for name in node.input)
    axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
    if scale.ndim:
        shape = [-1 if i == axis % value.ndim else 1 for i in range(value.ndim)]
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    return np.asarray((value.astype(np.float32) - zero.astype(np.float32)) * scale)


def processor() -> str:
    """The processor's name, and what it has for products of integers."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    fields = {name.strip(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    known = [flag for flag in FLAGS if flag in fields.get("flags", "").split()]
    return f"{fields.get('model name', 'unknown processor')}: {', '.join(known)}"


def compare(path: Path) -> str:
    """The times of both, as lines. Raises ValueError as of `in_floats`."""
    data = path.read_bytes()
    twin = in_floats(onnx.load_from_string(data)).SerializeToString()
    integers, floats = milliseconds(*(Classifier.open(each, path) for each in (data, twin)))
    return (
        f"{processor()}\n"
        f"{path.name}: {integers:.2f} ms an image in integers, {floats:.2f} in floats: "
        f"integers are {floats / integers:.1f} times as fast"
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.precisions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, nargs="?", default=DEFAULT_MODEL, metavar="MODEL.onnx")
    try:
        sys.stdout.write(compare(parser.parse_args(arguments).model) + "\n")
    except (OSError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
