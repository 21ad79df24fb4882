"""Eigenvalues and eigenvectors of many small real matrices, without LAPACK's cost of starting on each.

Householder reflections to Hessenberg form, Francis steps with two shifts to a quasi-triangular one, and
eigenvectors by substitution: Golub & Van Loan, "Matrix Computations", 4th edition, sections 7.4 to 7.6.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from koopscope.kernels.accelerate import jit

Floats = npt.NDArray[np.float64]
Complex = npt.NDArray[np.complex128]

LARGEST = 16  # rows; beyond, LAPACK is as fast
MOST_STEPS = 40  # for one eigenvalue; two or three are enough
EPS = float(np.finfo(np.float64).eps)  # matrices have entries of up to one


@jit()
def small_eigen(matrices: Floats) -> tuple[Complex, Complex]:
    """Give eigenvalues, and eigenvectors of unit length as columns.

    Complex eigenvalues come in exact conjugate pairs, side by side, the one above the real axis first. All
    is NaN where a matrix is not finite or the steps do not converge.

    Parameters
    ----------
    matrices
        Shape ``(group, n, n)``.

    Returns
    -------
    Shapes ``(group, n)`` and ``(group, n, n)``.
    """
    n_groups, n = matrices.shape[0], matrices.shape[1]
    values = np.full((n_groups, n), np.nan + 0j)
    vectors = np.full((n_groups, n, n), np.nan + 0j)
    form, basis, solution = np.empty((n, n)), np.empty((n, n)), np.empty(n, np.complex128)
    for group in range(n_groups):
        largest = np.abs(matrices[group]).max()
        if not np.isfinite(largest):
            continue
        unit = math.ldexp(1.0, math.frexp(largest)[1] - 1)  # squares must not overflow
        form[:], basis[:] = matrices[group] / unit, 0.0
        for row in range(n):
            basis[row, row] = 1.0
        _to_hessenberg(form, basis)
        if _to_schur(form, basis):
            _read_off(form, basis, solution, values[group], vectors[group])
            values[group] *= unit
    return values, vectors


@jit()
def _reflect(form: Floats, basis: Floats, first: int, count: int, x: float, y: float, z: float) -> float:
    """Turn (x, y, z), of which ``count`` are meant, to the first axis, from both sides of a matrix.

    Returns the length with its sign: what the reflected first entry becomes.
    """
    norm = math.sqrt(x * x + y * y + z * z)
    if norm == 0.0:
        return 0.0
    norm = -norm if x > 0.0 else norm
    # Reflector I - t v v^T with v = (1, b, c).
    pivot = x - norm
    b, c = y / pivot, z / pivot
    t = -pivot / norm
    n = form.shape[0]
    third = first + 2 if count == 3 else first  # with c = 0 it is read and left as it is
    for column in range(n):
        across = t * (form[first, column] + b * form[first + 1, column] + c * form[third, column])
        form[first, column] -= across
        form[first + 1, column] -= b * across
        form[third, column] -= c * across
    for row in range(n):
        across = t * (form[row, first] + b * form[row, first + 1] + c * form[row, third])
        form[row, first] -= across
        form[row, first + 1] -= b * across
        form[row, third] -= c * across
        across = t * (basis[row, first] + b * basis[row, first + 1] + c * basis[row, third])
        basis[row, first] -= across
        basis[row, first + 1] -= b * across
        basis[row, third] -= c * across
    return norm


@jit()
def _to_hessenberg(form: Floats, basis: Floats) -> None:
    """Clear all below the first subdiagonal, from the bottom up: two rows are turned at a time."""
    n = form.shape[0]
    for column in range(n - 2):
        for row in range(n - 2, column, -1):
            if form[row + 1, column] != 0.0:
                form[row, column] = _reflect(
                    form, basis, row, 2, form[row, column], form[row + 1, column], 0.0
                )
                form[row + 1, column] = 0.0


@jit()
def _to_schur(form: Floats, basis: Floats) -> bool:
    """Make a Hessenberg matrix quasi-triangular: blocks of two rows with complex eigenvalues are left."""
    end, steps = form.shape[0] - 1, 0
    while end > 0:
        begin = end
        while begin > 0:
            size = abs(form[begin - 1, begin - 1]) + abs(form[begin, begin])
            if abs(form[begin, begin - 1]) <= EPS * (size if size > 0.0 else 1.0):
                form[begin, begin - 1] = 0.0
                break
            begin -= 1
        if begin == end:
            end, steps = end - 1, 0
        elif begin == end - 1:
            _split(form, basis, begin)
            end, steps = end - 2, 0
        elif steps == MOST_STEPS:
            return False
        else:
            steps += 1
            _step(form, basis, begin, end, steps)
    return True


@jit()
def _step(form: Floats, basis: Floats, begin: int, end: int, steps: int) -> None:
    """One Francis step on the rows from begin to end, with the eigenvalues of the last two as shifts."""
    a, d = form[end - 1, end - 1], form[end, end]
    total, product = a + d, a * d - form[end - 1, end] * form[end, end - 1]
    if steps % 10 == 0:  # shifts that go round in circles are left once
        size = abs(form[end, end - 1]) + abs(form[end - 1, end - 2])
        total, product = 1.5 * size, size * size
    head, below = form[begin, begin], form[begin + 1, begin]
    x = head * (head - total) + form[begin, begin + 1] * below + product
    y = below * (head + form[begin + 1, begin + 1] - total)
    z = below * form[begin + 2, begin + 1]
    for row in range(begin, end):
        count = 3 if row + 2 <= end else 2
        largest = max(abs(x), abs(y), abs(z))
        if largest > 0.0:
            norm = _reflect(form, basis, row, count, x / largest, y / largest, z / largest) * largest
            if row > begin:
                form[row, row - 1], form[row + 1, row - 1] = norm, 0.0
                if count == 3:
                    form[row + 2, row - 1] = 0.0
        if row + 1 < end:
            x, y = form[row + 1, row], form[row + 2, row]
            z = form[row + 3, row] if row + 3 <= end else 0.0


@jit()
def _split(form: Floats, basis: Floats, first: int) -> None:
    """Turn a block of two rows so that it is triangular, where its eigenvalues are real."""
    a, b = form[first, first], form[first, first + 1]
    c, d = form[first + 1, first], form[first + 1, first + 1]
    half = 0.5 * (a - d)
    square = half * half + b * c
    if square < 0.0:
        return
    root = half + np.sqrt(square) if half >= 0.0 else half - np.sqrt(square)
    # (root, c) is an eigenvector: it becomes the first axis.
    largest = max(abs(root), abs(c))
    _reflect(form, basis, first, 2, root / largest, c / largest, 0.0)
    form[first + 1, first] = 0.0


@jit()
def _read_off(form: Floats, basis: Floats, solution: Complex, values: Complex, vectors: Complex) -> None:
    """Eigenvalues and eigenvectors of a quasi-triangular form, these turned back by the basis."""
    n = form.shape[0]
    last = n - 1
    while last >= 0:
        paired = last > 0 and form[last, last - 1] != 0.0
        solution[:] = 0.0
        solution[last] = 1.0
        if paired:
            half = 0.5 * (form[last - 1, last - 1] - form[last, last])
            square = half * half + form[last - 1, last] * form[last, last - 1]
            value = complex(form[last, last] + half, np.sqrt(-square))
            solution[last - 1] = (value - form[last, last]) / form[last, last - 1]
        else:
            value = complex(form[last, last], 0.0)
        _substitute(form, value, last - 1 - paired, last, solution)
        _turn_back(basis, solution, last, vectors, last - paired)
        values[last - paired] = value
        if paired:
            values[last] = value.conjugate()
            for row in range(n):
                vectors[row, last] = vectors[row, last - 1].conjugate()
        last -= 1 + paired


@jit()
def _substitute(form: Floats, value: complex, row: int, last: int, solution: Complex) -> None:
    """Solve ``(form - value) solution = 0`` upwards from a row; what is singular is moved by the rounding."""
    while row >= 0:
        right = 0j
        for column in range(row + 1, last + 1):
            right -= form[row, column] * solution[column]
        diagonal = form[row, row] - value
        if row > 0 and form[row, row - 1] != 0.0:
            above = 0j
            for column in range(row + 1, last + 1):
                above -= form[row - 1, column] * solution[column]
            corner = form[row - 1, row - 1] - value
            determinant = corner * diagonal - form[row - 1, row] * form[row, row - 1]
            if abs(determinant) < EPS * EPS:
                determinant = complex(EPS * EPS, 0.0)
            solution[row - 1] = (above * diagonal - form[row - 1, row] * right) / determinant
            solution[row] = (corner * right - form[row, row - 1] * above) / determinant
            row -= 2
        else:
            solution[row] = right / (diagonal if abs(diagonal) >= EPS else complex(EPS, 0.0))
            row -= 1
        largest = 0.0
        for column in range(last + 1):
            largest = max(largest, abs(solution[column].real), abs(solution[column].imag))
        if largest > 1e100:  # next to defective matrices
            for column in range(last + 1):
                solution[column] /= largest


@jit()
def _turn_back(basis: Floats, solution: Complex, last: int, vectors: Complex, place: int) -> None:
    """Multiply with the basis, and divide by the length."""
    n = basis.shape[0]
    square = 0.0
    for row in range(n):
        total = 0j
        for column in range(last + 1):
            total += basis[row, column] * solution[column]
        vectors[row, place] = total
        square += total.real * total.real + total.imag * total.imag
    length = np.sqrt(square)
    for row in range(n):
        vectors[row, place] /= length
