"""What a network looks at: maps of an image, images that a unit likes, and tests of such maps.

Arrays in, arrays out; how they are drawn is in `striate.plot`. Every method takes any network with
one image input, imported ones included, and reads it as it is in evaluation.
"""

from striate.interpret.cam import grad_cam, guided_grad_cam
from striate.interpret.guided import deconvolution, guided_backprop
from striate.interpret.integrated import convergence, integrated_gradients
from striate.interpret.occlusion import occlusion
from striate.interpret.saliency import input_x_gradient, saliency
from striate.interpret.smoothgrad import smoothgrad

__all__ = [
    "convergence",
    "deconvolution",
    "grad_cam",
    "guided_backprop",
    "guided_grad_cam",
    "input_x_gradient",
    "integrated_gradients",
    "occlusion",
    "saliency",
    "smoothgrad",
]
