"""What a network looks at: maps of an image, images that a unit likes, and tests of such maps.

Arrays in, arrays out; how they are drawn is in `striate.plot`. Every method takes any network with
one image input, imported ones included, and reads it as it is in evaluation.
"""

from striate.interpret.cam import grad_cam, guided_grad_cam
from striate.interpret.equivariance import equivariance
from striate.interpret.faithfulness import DeletionInsertion, deletion_insertion
from striate.interpret.gabor import GaborFit, fit_gabor
from striate.interpret.guided import deconvolution, guided_backprop
from striate.interpret.image_space import colour_root
from striate.interpret.integrated import convergence, integrated_gradients
from striate.interpret.invert import Inverted, invert
from striate.interpret.maximize import Maximized, maximize
from striate.interpret.occlusion import occlusion
from striate.interpret.patches import TopPatches, top_patches
from striate.interpret.saliency import input_x_gradient, saliency
from striate.interpret.sanity import Randomization, randomization_test
from striate.interpret.smoothgrad import smoothgrad

__all__ = [
    "DeletionInsertion",
    "GaborFit",
    "Inverted",
    "Maximized",
    "Randomization",
    "TopPatches",
    "colour_root",
    "convergence",
    "deconvolution",
    "deletion_insertion",
    "equivariance",
    "fit_gabor",
    "grad_cam",
    "guided_backprop",
    "guided_grad_cam",
    "input_x_gradient",
    "integrated_gradients",
    "invert",
    "maximize",
    "occlusion",
    "randomization_test",
    "saliency",
    "smoothgrad",
    "top_patches",
]
