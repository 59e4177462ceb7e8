"""Figures of networks and of what they learned: arrays in, a matplotlib Figure out.

    st.plot.save(st.plot.filters({"0.weight": net.state_dict()["0.weight"]}), "filters.png")

Nothing here touches pyplot or its global state; computing what is drawn is the callers' business.
"""

from striate.plot.activations import feature_maps
from striate.plot.attribution import attribution
from striate.plot.equivariance import equivariance
from striate.plot.explanation import explanation
from striate.plot.gabor import gabor_fit
from striate.plot.made import inverted, maximized
from striate.plot.matrix import matrix
from striate.plot.mistakes import confusion, mistakes
from striate.plot.network import network
from striate.plot.page import save
from striate.plot.receptive import effective_field, receptive_field
from striate.plot.roofline import roofline
from striate.plot.samples import pictures, preview
from striate.plot.scalars import activations, scalar_functions
from striate.plot.sliding import Sliding, sliding
from striate.plot.top_patches import top_patches
from striate.plot.trace import trace
from striate.plot.training import curves, learning_rates
from striate.plot.weights import filters

__all__ = [
    "Sliding",
    "activations",
    "attribution",
    "confusion",
    "curves",
    "effective_field",
    "equivariance",
    "explanation",
    "feature_maps",
    "filters",
    "gabor_fit",
    "inverted",
    "learning_rates",
    "matrix",
    "maximized",
    "mistakes",
    "network",
    "pictures",
    "preview",
    "receptive_field",
    "roofline",
    "save",
    "scalar_functions",
    "sliding",
    "top_patches",
    "trace",
]
