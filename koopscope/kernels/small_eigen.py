"""Eigenvalues and eigenvectors of a small real matrix, without LAPACK's cost of starting on each.

Householder reflections to Hessenberg form, Francis steps with two shifts to a quasi-triangular one, and
eigenvectors by substitution: Golub & Van Loan, "Matrix Computations", 4th edition, sections 7.4 to 7.6.
Number by number: expressions of whole arrays would take as long to compile as all of it.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from koopscope.kernels.accelerate import jit

Floats = npt.NDArray[np.float64]

MOST_STEPS = 40  # for one eigenvalue; two or three are enough
EPS = float(np.finfo(np.float64).eps)  # matrices have entries of up to two
HUGE = 1e100  # solutions next to defective matrices are divided by their size


@jit()
def small_eigen(form: Floats, basis: Floats, solution: Floats, values: Floats, vectors: Floats) -> bool:
    """Find eigenvalues, and eigenvectors of unit length; tell whether they were found.

    Complex eigenvalues come in exact conjugate pairs, side by side, the one above the real axis first. None
    are found of a matrix that is not finite, or where the steps do not converge.

    Parameters
    ----------
    form
        The matrix, shape ``(n, n)``, which is worked on in place; larger ones are faster by LAPACK from some
        16 rows on.
    basis, solution
        Room to work in, shapes ``(n, n)`` and ``(2, n)``.
    values
        Real and imaginary parts of what is found, shape ``(2, n)``.
    vectors
        The same of eigenvectors as columns, shape ``(2, n, n)``.
    """
    n = form.shape[0]
    largest = 0.0
    for row in range(n):
        for column in range(n):
            size = abs(form[row, column])
            if not size < math.inf:
                return False
            largest = max(largest, size)
            basis[row, column] = 1.0 if row == column else 0.0
    unit = math.ldexp(1.0, math.frexp(largest)[1] - 1)  # squares must not overflow
    for row in range(n):
        for column in range(n):
            form[row, column] /= unit
    for column in range(n - 2):  # Hessenberg form, from the bottom up: two rows are turned at a time
        for row in range(n - 2, column, -1):
            if form[row + 1, column] != 0.0:
                x, y = form[row, column], form[row + 1, column]
                size = max(abs(x), abs(y))  # squares must not underflow either
                form[row, column] = _reflect(form, basis, row, row, x / size, y / size, 0.0) * size
                form[row + 1, column] = 0.0
    if not _to_schur(form, basis):
        return False
    _read_off(form, basis, solution, values, vectors)
    for index in range(n):
        values[0, index] *= unit
        values[1, index] *= unit
    return True


@jit()
def _reflect(form: Floats, basis: Floats, first: int, third: int, x: float, y: float, z: float) -> float:
    """Turn (x, y, z), in rows ``first``, the next and ``third``, to the first axis, from both sides.

    Of two rows only, z is zero and ``third`` any row. Returns the length with its sign: what the reflected
    first entry becomes.
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
    across = form[end - 1, end] * form[end, end - 1]
    if steps % 10 == 0:  # shifts that go round in circles are left once
        size = abs(form[end, end - 1]) + abs(form[end - 1, end - 2])
        a = d = d + 0.75 * size
        across = -0.4375 * size * size
    # First column of the product of the matrix less either shift, over an entry. Differences come first:
    # where eigenvalues are all but the same, they are what is left.
    head, below = form[begin, begin], form[begin + 1, begin]
    x = ((head - a) * (head - d) - across) / below + form[begin, begin + 1]
    y = (head - a) + (form[begin + 1, begin + 1] - d)
    z = form[begin + 2, begin + 1]
    for row in range(begin, end):
        third = min(row + 2, end)
        largest = max(abs(x), abs(y), abs(z))
        if largest > 0.0:
            norm = _reflect(form, basis, row, third, x / largest, y / largest, z / largest) * largest
            if row > begin:
                form[row, row - 1], form[row + 1, row - 1] = norm, 0.0
                if third == row + 2:
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
    root = half + math.sqrt(square) if half >= 0.0 else half - math.sqrt(square)
    # (root, c) is an eigenvector: it becomes the first axis.
    largest = max(abs(root), abs(c))
    _reflect(form, basis, first, first, root / largest, c / largest, 0.0)
    form[first + 1, first] = 0.0


@jit()
def _read_off(form: Floats, basis: Floats, solution: Floats, values: Floats, vectors: Floats) -> None:
    """Eigenvalues and eigenvectors of a quasi-triangular form, these turned back by the basis."""
    n = form.shape[0]
    last = n - 1
    while last >= 0:
        paired = last > 0 and form[last, last - 1] != 0.0
        first = last - 1 if paired else last
        real, imag = form[last, last], 0.0
        solution[0, last], solution[1, last] = 1.0, 0.0
        if paired:
            half = 0.5 * (form[first, first] - form[last, last])
            imag = math.sqrt(-half * half - form[first, last] * form[last, first])
            real += half
            solution[0, first] = half / form[last, first]
            solution[1, first] = imag / form[last, first]
        _substitute(form, real, imag, first - 1, last, solution)
        square = 0.0
        for row in range(n):  # multiplied with the basis
            one, other = 0.0, 0.0
            for column in range(last + 1):
                one += basis[row, column] * solution[0, column]
                other += basis[row, column] * solution[1, column]
            vectors[0, row, last], vectors[1, row, last] = one, -other
            square += one * one + other * other
        length = math.sqrt(square)
        for row in range(n):
            vectors[0, row, last] /= length
            vectors[1, row, last] /= length
            vectors[0, row, first], vectors[1, row, first] = vectors[0, row, last], -vectors[1, row, last]
        values[0, last], values[1, last] = real, -imag
        values[0, first], values[1, first] = real, imag
        last = first - 1


@jit()
def _substitute(form: Floats, real: float, imag: float, row: int, last: int, solution: Floats) -> None:
    """Solve ``(form - value) solution = 0`` upwards from a row; what is singular is moved by the rounding."""
    value = complex(real, imag)
    while row >= 0:
        paired = row > 0 and form[row, row - 1] != 0.0
        above = row - 1 if paired else row
        right, upper, size = 0.0j, 0.0j, 0.0
        for column in range(row + 1, last + 1):
            known = complex(solution[0, column], solution[1, column])
            right -= form[row, column] * known
            upper -= form[above, column] * known
        if paired:
            high, low = form[above, above] - value, form[row, row] - value
            one, two = _solve_pair(high, form[above, row], form[row, above], low, upper, right)
            solution[0, above], solution[1, above] = one.real, one.imag
        else:
            two = right / _not_zero(form[row, row] - value)
        solution[0, row], solution[1, row] = two.real, two.imag
        for column in range(above, row + 1):
            size = max(size, abs(solution[0, column]), abs(solution[1, column]))
        if size > HUGE:  # next to defective matrices
            for column in range(above, last + 1):
                solution[0, column] /= size
                solution[1, column] /= size
        row = above - 1


@jit()
def _solve_pair(
    high: complex, beside: float, below: float, low: complex, upper: complex, right: complex
) -> tuple[complex, complex]:
    """Solve ``[[high beside] [below low]] x = [upper right]`` with the largest of the four as pivot.

    Without, or by determinants, digits are lost next to matrices that are singular.
    """
    a, b, c, d = high, complex(beside, 0.0), complex(below, 0.0), low
    if max(abs(c), abs(d)) > max(abs(a), abs(b)):
        a, b, c, d, upper, right = c, d, a, b, right, upper
    turned = abs(b) > abs(a)
    if turned:
        a, b, c, d = b, a, d, c
    factor = c / _not_zero(a)
    two = (right - factor * upper) / _not_zero(d - factor * b)
    one = (upper - b * two) / _not_zero(a)
    return (two, one) if turned else (one, two)


@jit()
def _not_zero(pivot: complex) -> complex:
    return pivot if abs(pivot) >= EPS else complex(EPS, 0.0)
