"""Numba kernels: plain arrays in, plain arrays out, one file a kernel.

The only folder that imports numba. Imports nothing else of koopscope, so that each kernel can be read,
tested against its plain NumPy twin (``tests/reference.py``), and timed alone. All sums run in float64.
"""
