"""What compilers do not find by themselves: five steps of kernels, written for whole vectors.

Each has a plain twin, which says what it does; it runs where compiling is switched off. With ``N`` lanes a
vector, products of four rows of a matrix with ``3 N`` columns stay in registers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import llvmlite.binding
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

ROWS = 4  # of a product's left side that are taken at a time
MOST_VECTORS = 3  # of its right side
# Vectors of the widest registers; where those have fewer lanes, the compiler splits four in two.
LANES = 8 if llvmlite.binding.get_host_cpu_features().get("avx512f") else 4

_DOUBLE, _INT32, _INT64 = ir.DoubleType(), ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_DOUBLE, LANES)
_LINES = ir.VectorType(_INT32, LANES)


def _plain_add_products(
    values: npt.NDArray[np.float64],
    left: int,
    right: int,
    pitch: int,
    count: int,
    vectors: int,
    sums: npt.NDArray[np.float64],
    place: int,
    width: int,
) -> None:
    """Add ``values[left + r pitch + i] values[right + r pitch + j]`` to ``sums[place + i width + j]``.

    For i below ``ROWS``, j below ``vectors * LANES`` and r below ``count``; all arrays are taken as flat.
    """
    rows = np.arange(count)[:, None] * pitch
    products = values[rows + left + np.arange(ROWS)].T @ values[rows + right + np.arange(vectors * LANES)]
    for i in range(ROWS):
        sums.reshape(-1)[place + i * width :][: vectors * LANES] += products[i]


def _plain_project(
    values: npt.NDArray[np.float64],
    first: int,
    others: int,
    pitch: int,
    vectors: int,
    sums: npt.NDArray[np.float64],
) -> None:
    """Write the inner products of a stretch with ``ROWS`` others to sums; all arrays are taken as flat.

    The stretches have ``vectors * LANES`` numbers and begin at ``first`` and at ``others + i pitch``.
    """
    flat, length = values.reshape(-1), vectors * LANES
    for i in range(ROWS):
        sums[i] = flat[first : first + length] @ flat[others + i * pitch :][:length]


def _plain_subtract(
    values: npt.NDArray[np.float64],
    first: int,
    others: int,
    pitch: int,
    vectors: int,
    factors: npt.NDArray[np.float64],
) -> None:
    """Subtract a stretch from ``ROWS`` others, as often as the factors say; they lie as in `project`."""
    flat, length = values.reshape(-1), vectors * LANES
    for i in range(ROWS):
        flat[others + i * pitch :][:length] -= factors[i] * flat[first : first + length]


def _plain_widen(
    recorded: npt.NDArray[Any],
    start: int,
    count: int,
    origin: npt.NDArray[np.float64],
    member: int,
    values: npt.NDArray[np.float64],
    place: int,
) -> None:
    """Write ``count`` neighbours, at most ``LANES``, in double precision and less their origin."""
    found = recorded.reshape(-1)[start : start + count]
    values[place : place + count] = found - origin[member : member + count]


def _plain_touch(recorded: npt.NDArray[Any], index: int) -> None:
    """Have a number of flat ones brought into the cache."""


@intrinsic
def _add_products(
    typing: Any,
    values: Any,
    left: Any,
    right: Any,
    pitch: Any,
    count: Any,
    vectors: Any,
    sums: Any,
    place: Any,
    width: Any,
) -> tuple[Any, Callable[..., Any]]:
    """Compile `_plain_add_products`: a loop for each number of vectors."""
    signature = types.void(values, left, right, pitch, count, vectors, sums, place, width)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, left, right, pitch, count, vectors, _, place, width = arguments
        data = _pointer(context, builder, signature, arguments, 0)
        out = _pointer(context, builder, signature, arguments, 6)
        for n_vectors in range(1, MOST_VECTORS + 1):
            wanted = builder.icmp_signed("==", vectors, ir.Constant(vectors.type, n_vectors))
            with builder.if_then(wanted):
                begin = builder.gep(data, [left]), builder.gep(data, [right])
                products = _loop(builder, *begin, pitch, count, n_vectors)
                for i, line in enumerate(products):
                    at = builder.add(place, builder.mul(width, ir.Constant(_INT64, i)))
                    for j, product in enumerate(line):
                        index = builder.add(at, ir.Constant(_INT64, j * LANES))
                        found = _as(builder, builder.gep(out, [index]), _VECTOR)
                        builder.store(builder.fadd(builder.load(found, align=8), product), found, align=8)
        return context.get_dummy_value()

    return signature, generate


def _loop(builder: Any, left: Any, right: Any, pitch: Any, count: Any, n_vectors: int) -> list[list[Any]]:
    """Add up products over at least one row, all sums in registers."""
    before, loop = builder.block, builder.append_basic_block("rows")
    after = builder.append_basic_block("sums")
    builder.branch(loop)
    builder.position_at_end(loop)
    row, offset = builder.phi(_INT64), builder.phi(_INT64)
    sums = [[builder.phi(_VECTOR) for _ in range(n_vectors)] for _ in range(ROWS)]
    for phi in (row, offset, *(phi for line in sums for phi in line)):
        phi.add_incoming(ir.Constant(phi.type, None), before)
    columns = []
    for j in range(n_vectors):
        index = builder.add(offset, ir.Constant(_INT64, j * LANES))
        columns.append(builder.load(_as(builder, builder.gep(right, [index]), _VECTOR), align=8))
    for i in range(ROWS):
        factor = builder.load(builder.gep(left, [builder.add(offset, ir.Constant(_INT64, i))]))
        factors = _repeated(builder, factor, _VECTOR)
        for j in range(n_vectors):
            product = builder.fmul(factors, columns[j], flags=("contract",))
            sums[i][j].add_incoming(builder.fadd(sums[i][j], product, flags=("contract",)), loop)
    following = builder.add(row, ir.Constant(_INT64, 1))
    row.add_incoming(following, loop)
    offset.add_incoming(builder.add(offset, pitch), loop)
    builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
    builder.position_at_end(after)
    return [[phi.incomings[1][0] for phi in line] for line in sums]


@intrinsic
def _project(
    typing: Any, values: Any, first: Any, others: Any, pitch: Any, vectors: Any, sums: Any
) -> tuple[Any, Callable[..., Any]]:
    """Compile `_plain_project`."""
    signature = types.void(values, first, others, pitch, vectors, sums)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        one, stretches = _stretches(context, builder, signature, arguments)
        out = _pointer(context, builder, signature, arguments, 5)
        reserve: Any = cgutils.alloca_once  # a register, once it is compiled
        totals = [reserve(builder, _VECTOR) for _ in range(ROWS)]
        for total in totals:
            builder.store(ir.Constant(_VECTOR, None), total)
        with _vectors(builder, arguments[4]) as offset:
            factor = _load(builder, one, offset)
            for total, stretch in zip(totals, stretches, strict=True):
                product = builder.fmul(factor, _load(builder, stretch, offset), flags=("contract",))
                builder.store(builder.fadd(builder.load(total), product, flags=("contract",)), total)
        kind = ir.FunctionType(_DOUBLE, [_DOUBLE, _VECTOR])
        add = _declared(builder, f"llvm.vector.reduce.fadd.v{LANES}f64", kind)
        for index, total in enumerate(totals):
            values = [ir.Constant(_DOUBLE, 0.0), builder.load(total)]
            found = builder.call(add, values, fastmath=("reassoc",))
            builder.store(found, builder.gep(out, [ir.Constant(_INT64, index)]))
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _subtract(
    typing: Any, values: Any, first: Any, others: Any, pitch: Any, vectors: Any, factors: Any
) -> tuple[Any, Callable[..., Any]]:
    """Compile `_plain_subtract`."""
    signature = types.void(values, first, others, pitch, vectors, factors)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        one, stretches = _stretches(context, builder, signature, arguments)
        found = _pointer(context, builder, signature, arguments, 5)
        numbers = [builder.load(builder.gep(found, [ir.Constant(_INT64, i)])) for i in range(ROWS)]
        factors = [_repeated(builder, number, _VECTOR) for number in numbers]
        with _vectors(builder, arguments[4]) as offset:
            line = _load(builder, one, offset)
            for factor, stretch in zip(factors, stretches, strict=True):
                product = builder.fmul(factor, line, flags=("contract",))
                left = builder.fsub(_load(builder, stretch, offset), product, flags=("contract",))
                builder.store(left, _as(builder, builder.gep(stretch, [offset]), _VECTOR), align=8)
        return context.get_dummy_value()

    return signature, generate


def _stretches(context: Any, builder: Any, signature: Any, arguments: Any) -> tuple[Any, list[Any]]:
    """Where the one stretch and the others begin."""
    _, first, others, pitch, *_ = arguments
    data = _pointer(context, builder, signature, arguments, 0)
    starts = [builder.add(others, builder.mul(pitch, ir.Constant(_INT64, i))) for i in range(ROWS)]
    return builder.gep(data, [first]), [builder.gep(data, [start]) for start in starts]


@contextmanager
def _vectors(builder: Any, count: Any) -> Iterator[Any]:
    """Loop over so many vectors; gives where each begins."""
    with cgutils.for_range(builder, count) as loop:
        yield builder.mul(loop.index, ir.Constant(_INT64, LANES))


def _load(builder: Any, pointer: Any, offset: Any) -> Any:
    return builder.load(_as(builder, builder.gep(pointer, [offset]), _VECTOR), align=8)


@intrinsic
def _widen(
    typing: Any, recorded: Any, start: Any, count: Any, origin: Any, member: Any, values: Any, place: Any
) -> tuple[Any, Callable[..., Any]]:
    """Compile `_plain_widen`: what is beyond the count is neither read nor written."""
    signature = types.void(recorded, start, count, origin, member, values, place)
    narrow = ir.FloatType() if recorded.dtype == types.float32 else _DOUBLE

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, start, count, _, member, _, place = arguments
        lanes = ir.Constant(_LINES, list(range(LANES)))
        mask = builder.icmp_signed("<", lanes, _repeated(builder, builder.trunc(count, _INT32), _LINES))

        def masked(argument: int, index: Any, element: Any) -> tuple[Any, Any, str]:
            vector = ir.VectorType(element, LANES)
            pointer = builder.gep(_pointer(context, builder, signature, arguments, argument), [index])
            bits = 32 if isinstance(element, ir.FloatType) else 64
            return vector, _as(builder, pointer, vector), f"v{LANES}f{bits}.p0v{LANES}f{bits}"

        def load(argument: int, index: Any, element: Any) -> Any:
            vector, pointer, suffix = masked(argument, index, element)
            kind = ir.FunctionType(vector, [pointer.type, _INT32, mask.type, vector])
            function = _declared(builder, f"llvm.masked.load.{suffix}", kind)
            aligned = ir.Constant(_INT32, 4 if isinstance(element, ir.FloatType) else 8)
            return builder.call(function, [pointer, aligned, mask, ir.Constant(vector, None)])

        found = load(0, start, narrow)
        wide = found if narrow is _DOUBLE else builder.fpext(found, _VECTOR)
        moved = builder.fsub(wide, load(3, member, _DOUBLE))
        _, pointer, suffix = masked(5, place, _DOUBLE)
        kind = ir.FunctionType(ir.VoidType(), [_VECTOR, pointer.type, _INT32, mask.type])
        store = _declared(builder, f"llvm.masked.store.{suffix}", kind)
        builder.call(store, [moved, pointer, ir.Constant(_INT32, 8), mask])
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _touch(typing: Any, recorded: Any, index: Any) -> tuple[Any, Callable[..., Any]]:
    """Compile `_plain_touch`: to be read, into the second-level cache."""
    signature = types.void(recorded, index)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.gep(_pointer(context, builder, signature, arguments, 0), [arguments[1]])
        place = _as(builder, place, ir.IntType(8))
        kind = ir.FunctionType(ir.VoidType(), [place.type, _INT32, _INT32, _INT32])
        function = _declared(builder, "llvm.prefetch.p0i8", kind)
        builder.call(function, [place, *(ir.Constant(_INT32, word) for word in (0, 2, 1))])
        return context.get_dummy_value()

    return signature, generate


def _pointer(context: Any, builder: Any, signature: Any, arguments: Any, index: int) -> Any:
    """Where the numbers of an array begin; they are taken to be neighbours in memory."""
    assert signature.args[index].layout == "C", signature.args[index]
    return context.make_array(signature.args[index])(context, builder, value=arguments[index]).data


def _declared(builder: Any, name: str, kind: Any) -> Any:
    """One of LLVM's own functions."""
    declare: Any = cgutils.get_or_insert_function
    return declare(builder.module, kind, name)


def _as(builder: Any, pointer: Any, kind: Any) -> Any:
    return builder.bitcast(pointer, kind.as_pointer())


def _repeated(builder: Any, number: Any, vector: Any) -> Any:
    """One number in every lane."""
    nothing, first = ir.Constant(vector, ir.Undefined), ir.Constant(_INT32, 0)
    return builder.shuffle_vector(
        builder.insert_element(nothing, number, first), nothing, ir.Constant(_LINES, None)
    )


_PLAIN = getattr(config, "DISABLE_JIT", False)
add_products: Callable[..., None] = _plain_add_products if _PLAIN else _add_products
project: Callable[..., None] = _plain_project if _PLAIN else _project
subtract: Callable[..., None] = _plain_subtract if _PLAIN else _subtract
widen: Callable[..., None] = _plain_widen if _PLAIN else _widen
touch: Callable[..., None] = _plain_touch if _PLAIN else _touch
