"""Functions of one float32, and their derivatives, for the loops to compute along a row."""

from __future__ import annotations

import numpy as np

from tinylm.fast.loops.launch import exp, inline


@inline
def erf(x):
    """Return the error function (Abramowitz and Stegun 1964, 7.1.26), within 1.5e-7."""
    size = abs(x)
    t = np.float32(1) / (np.float32(1) + np.float32(0.3275911) * size)
    y = np.float32(1.061405429) * t - np.float32(1.453152027)
    y = y * t + np.float32(1.421413741)
    y = y * t - np.float32(0.284496736)
    y = (y * t + np.float32(0.254829592)) * t
    y = np.float32(1) - y * exp(-size * size)
    return y if x > 0 else -y


@inline
def tanh(x):
    """Return the hyperbolic tangent, to 1e-7."""
    power = exp(np.float32(-2) * abs(x))
    y = (np.float32(1) - power) / (np.float32(1) + power)
    return y if x > 0 else -y


@inline
def gelu(x):
    """Return x times the normal distribution at x."""
    return x * (np.float32(0.5) * (np.float32(1) + erf(x * np.float32(0.70710678))))


@inline
def gelu_slope(x):
    """Return the derivative of ``gelu``: the distribution, and x times the density."""
    share = np.float32(0.5) * (np.float32(1) + erf(x * np.float32(0.70710678)))
    return share + x * np.float32(0.39894228) * exp(np.float32(-0.5) * x * x)


@inline
def gelu_tanh(x):
    """Return GELU in its tanh form."""
    inner = np.float32(0.79788456) * (x + np.float32(0.044715) * x * x * x)
    return np.float32(0.5) * x * (np.float32(1) + tanh(inner))


@inline
def gelu_tanh_slope(x):
    """Return the derivative of ``gelu_tanh``."""
    square = x * x
    y = tanh(np.float32(0.79788456) * (x + np.float32(0.044715) * x * square))
    inner = np.float32(0.79788456) * (np.float32(1) + np.float32(0.134145) * square)
    half = np.float32(0.5)
    return half * (np.float32(1) + y) + half * x * (np.float32(1) - y * y) * inner


@inline
def silu(x):
    """Return x times its logistic function, (1 + tanh(x / 2)) / 2."""
    return x * (np.float32(0.5) * (np.float32(1) + tanh(np.float32(0.5) * x)))


@inline
def silu_slope(x):
    """Return the derivative of ``silu``."""
    y = np.float32(0.5) * (np.float32(1) + tanh(np.float32(0.5) * x))
    return y * (np.float32(1) + x * (np.float32(1) - y))
