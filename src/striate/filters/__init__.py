"""Classical filters ready-made, and any kernel applied to whole images by the best algorithm.

    from striate import filters

    edges = filters.apply(photo, filters.sobel("x"))
    soft = filters.apply(photo, filters.gaussian(sigma=3), border="mirror")
    strength = filters.gradient_magnitude(photo)

Kernels are plain NumPy arrays; `apply` takes any other array as well.
"""

from striate.filters.apply import ALGORITHMS, BORDERS, apply
from striate.filters.convolve import convolve
from striate.filters.cost import Choice, choose
from striate.filters.gradient import gradient, gradient_magnitude, gradient_orientation
from striate.filters.kernels import (
    KERNELS,
    binomial,
    box,
    edge_pair,
    emboss,
    gabor,
    gaussian,
    laplacian,
    laplacian_of_gaussian,
    prewitt,
    scharr,
    sharpen,
    sobel,
    unsharp,
)
from striate.filters.separate import separate

__all__ = [
    "ALGORITHMS",
    "BORDERS",
    "KERNELS",
    "Choice",
    "apply",
    "binomial",
    "box",
    "choose",
    "convolve",
    "edge_pair",
    "emboss",
    "gabor",
    "gaussian",
    "gradient",
    "gradient_magnitude",
    "gradient_orientation",
    "laplacian",
    "laplacian_of_gaussian",
    "prewitt",
    "scharr",
    "separate",
    "sharpen",
    "sobel",
    "unsharp",
]
