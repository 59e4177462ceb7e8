"""Vector registers of the hot kernels must not go through the stack.

Counted in the assembly that LLVM writes: every instruction that moves or reads a vector register
relative to the stack pointer. Needs no CPU of the target.
"""

from __future__ import annotations

import pytest
from conv_case import ConvCase
from spills import spills_in_loops, vector_spills

from striate.codegen.compiler import assembly
from striate.codegen.targets import TARGETS
from striate.kernels.kernel import Kernel
from striate.kernels.linear import batch_weight_gradient

LENET = {
    "conv1": ConvCase(1, 6, (28, 28), (5, 5), padding=((2, 2), (2, 2))),
    "conv2": ConvCase(6, 16, (14, 14), (5, 5)),
    "fc1": ConvCase(400, 120, (1, 1), (1, 1)),
    "fc2": ConvCase(120, 84, (1, 1), (1, 1)),
    "fc3": ConvCase(84, 10, (1, 1), (1, 1)),
}
OTHERS = {
    "3×3 of 16 channels": ConvCase(16, 32, (16, 16), padding=((1, 1), (1, 1))),
    "3×3 stride 2": ConvCase(8, 16, (15, 15), stride=(2, 2), padding=((1, 1), (1, 1))),
    "1×1": ConvCase(32, 32, (8, 8), (1, 1)),
    "7×7": ConvCase(3, 8, (20, 20), (7, 7)),
    "depthwise": ConvCase(1, 1, (14, 14), groups=8, padding=((1, 1), (1, 1))),
}
ROLES = ("forward", "to input", "to weight")


def _kernel(case: ConvCase, role: str, level: str) -> Kernel:
    target = TARGETS[f"x86-64-{level}"]
    if role == "forward":
        return case.forward_kernel(target)
    if role == "to input":
        return case.to_input_kernel(target)
    return case.to_weight_kernel(target, accumulate=True)


def _assembly(kernel: Kernel, level: str) -> str:
    return assembly(kernel.module.text, TARGETS[f"x86-64-{level}"])


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("layer", LENET)
@pytest.mark.parametrize("level", ["v3", "v4"])
def test_the_loops_of_lenet_have_no_spills(level: str, layer: str, role: str) -> None:
    assert spills_in_loops(_assembly(_kernel(LENET[layer], role, level), level)) == 0


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("layer", [*LENET, *OTHERS])
def test_spills_on_the_oldest_target_stay_few(layer: str, role: str) -> None:
    """16 registers and no multiply-add instruction: some kernels have up to 14 of them."""
    kernel = _kernel({**LENET, **OTHERS}[layer], role, "v2")
    assert spills_in_loops(_assembly(kernel, "v2")) <= 16


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("layer", OTHERS)
@pytest.mark.parametrize("level", ["v3", "v4"])
def test_other_layers_have_few(level: str, layer: str, role: str) -> None:
    """At most at the edges of 7×7 kernels, in tiles that few kernel columns meet."""
    assert spills_in_loops(_assembly(_kernel(OTHERS[layer], role, level), level)) <= 8


@pytest.mark.parametrize("level", ["v3", "v4"])
@pytest.mark.parametrize(("outputs", "inputs"), [(120, 400), (84, 120), (10, 84), (64, 576)])
def test_large_linear_gradients_have_no_spills(level: str, outputs: int, inputs: int) -> None:
    kernel = batch_weight_gradient(TARGETS[f"x86-64-{level}"], outputs, inputs)
    assert spills_in_loops(_assembly(kernel, level)) == 0


ASSEMBLY = """
    .globl f
    # a comment (%rsp) %xmm0
    vmovups %ymm9, 96(%rsp)
.LBB0_1:
    movaps %xmm7, (%rsp)
.LBB0_2:
    vmovups %ymm3, 32(%rsp)      # 32-byte Spill
    vmulps 64(%rsp), %zmm1, %zmm2
    vmovups (%rdi,%rax), %ymm0
    movq %rax, 8(%rsp)
    vmovaps 16(%rbp), %ymm1
    jl .LBB0_2
    vbroadcastss 4(%rsp), %xmm1
    jge .LBB0_3
    jmp .LBB0_1
.LBB0_3:
    vaddps %ymm0, %ymm1, %ymm2
"""


def test_counter_sees_spills() -> None:
    assert vector_spills(ASSEMBLY) == 5
    assert spills_in_loops(ASSEMBLY) == 2
    assert spills_in_loops(ASSEMBLY.replace("jl .LBB0_2", "nop")) == 4


def test_counter_sees_spills_of_a_kernel_with_too_many_sums() -> None:
    from striate.codegen.builder import Builder
    from striate.kernels.kernel import make_kernel

    target = TARGETS["x86-64-v3"]

    def build(b: Builder, arguments: list[str]) -> None:
        out, x = arguments

        def step(i: int | str, sums: list[str]) -> list[str]:
            at = b.at(x, b.mul(i, b.width))
            return [b.fma(b.load(at, k * b.width), b.load(at), s) for k, s in enumerate(sums)]

        sums = b.loop(0, 9, step, [b.zero] * 24)
        for k, total in enumerate(sums):
            b.store(total, out, k * b.width)

    kernel = make_kernel(target, "crowded", ["out", "x"], build)
    assert spills_in_loops(_assembly(kernel, "v3")) > 0
