"""The generated excerpts of docs/machine-code.md: LeNet-5's first layer on its way to assembly.

    python docs/scripts/machine_code.py           # print them
    python docs/scripts/machine_code.py --write   # put them into the page

They are made for x86-64-v3 (AVX2), whatever machine this runs on; a test compares them with the
page.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np

import striate as st
from striate.codegen.compiler import assembly
from striate.codegen.targets import TARGETS
from striate.formula.operations import find_operation
from striate.graph.gradient import differentiate
from striate.graph.graph import Graph
from striate.kernels.conv import choose_tile
from striate.kernels.kernel import Kernel
from striate.kernels.window import taps
from striate.program.fuse import fuse
from striate.program.lower import Context, calls_of
from striate.program.plan import plan_inference

PAGE = Path(__file__).parents[1] / "machine-code.md"
TARGET = TARGETS["x86-64-v3"]
BLOCK = re.compile(r"(<!-- made: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def network() -> Graph:
    return st.models.lenet5().eval().to_graph((1, 28, 28))


def formula(graph: Graph) -> str:
    node = graph.nodes["conv1"]
    shapes = [(1, *graph.inputs[0].shape), *(graph.nodes[i].shape for i in node.inputs[1:])]
    meaning = find_operation(node.op).formula(node.attributes, shapes)
    lines = [str(meaning)]
    lines += [f"attributes  {dict(node.attributes)}", f"shape       {node.shape}"]
    return "\n".join(lines)


def gradient(graph: Graph) -> str:
    names = [p.name for p in graph.parameters]
    whole, found = differentiate(graph, "cross_entropy", names)
    new = [n for n in whole.nodes.values() if n.name not in graph.nodes and n.op != "input"]
    shown = [n for n in new if n.name.split(":")[0] in ("loss", "fc3", "relu1", "conv1")]
    lines = [f"{n.name:10} = {n.op}({', '.join(n.inputs)})" for n in shown]
    lines.insert(5, f"…  {len(new) - len(shown)} more")
    return "\n".join([*lines, f"gradient of conv1.weight: {found['conv1.weight']}"])


def fusion(graph: Graph) -> str:
    lines = []
    for step in fuse(graph).steps:
        tail = f", then {step.tail.expr} of its value v" if step.tail else ""
        lines.append(f"{step.node.name:6} → {step.output:6}  {step.node.op}{tail}")
    return "\n".join(lines)


def window() -> str:
    along = taps(size=28, out=28, kernel=5, stride=1, dilation=1, before=2)
    lines = [f"output column {j:2}: {along[j]}" for j in (0, 1, 2, 27)]
    to, tp = choose_tile(TARGET, outputs=6, positions=28)
    lines.append(f"register tile: {to} output channels × {tp} columns = {to * tp} accumulators")
    return "\n".join(lines)


def kernel(graph: Graph) -> Kernel:
    (call,) = calls_of(Context(graph, TARGET), fuse(graph).steps[0])
    return call.kernel


def _largest_block(text: str, label: str, counted: str) -> list[str]:
    """The lines of the basic block with the most multiply-adds."""
    blocks: list[list[str]] = [[]]
    for line in text.splitlines():
        if re.match(label, line):
            blocks.append([])
        blocks[-1].append(line)
    return max(blocks, key=lambda block: sum(counted in line for line in block))


def ir(graph: Graph) -> str:
    block = _largest_block(kernel(graph).module.text, r"\w+:$", "call <8 x float> @llvm.fma")
    multiply_adds = sum("@llvm.fma" in line for line in block)
    phis = [line for line in block if " = phi <" in line]
    first = next(k for k, line in enumerate(block) if "asm sideeffect" in line)
    rest = len(block) - first - 14
    return "\n".join(
        [
            block[0],
            *phis[:3],
            f"  ; … {len(phis)} accumulators in all",
            *block[first : first + 14],
            f"  ; … {rest} more lines; {multiply_adds} multiply-adds in the loop",
        ]
    )


def machine(graph: Graph) -> str:
    text = assembly(kernel(graph).module.text, TARGET)
    block = _largest_block(text, r"\.LBB", "vfmadd")
    body = [line.expandtabs(8) for line in block if not line.strip().startswith((".p2align", "#"))]
    first = next(k for k, line in enumerate(body) if "vfmadd" in line)
    start = max(first - 4, 1)
    count = sum("vfmadd" in line for line in body)
    spills = sum("(%rsp)" in line and "ymm" in line for line in body)
    shown = body[start : start + 22]
    left = len(body) - start - len(shown)
    return "\n".join(
        [
            block[0],
            *shown,
            f"        # … {left} more; {count} multiply-adds in the loop, {spills} vector spills",
        ]
    )


def whole(graph: Graph) -> str:
    plan = plan_inference(graph, TARGET, graph.outputs)
    floats = sum(int(np.prod(graph.nodes[n].shape)) * TARGET.width for n in plan.arena.offsets)
    return "\n".join(
        [
            f"modules              {len(plan.modules)}: {', '.join(_families(plan.modules))}",
            f"values, end to end   {4 * floats:,} bytes for {TARGET.width} images",
            f"workspace            {4 * plan.arena.size:,} bytes: memory is used again",
        ]
    )


def _families(modules: list) -> list[str]:
    names = [re.sub(r"_[0-9a-f]{16}$", "", m.symbol) for m in modules]
    return [f"{names.count(n)} {n}" for n in dict.fromkeys(names)]


def excerpts() -> dict[str, tuple[str, str]]:
    """For each name: the language of its block, and its text."""
    graph = network()
    return {
        "formula": ("text", formula(graph)),
        "gradient": ("text", gradient(graph)),
        "fusion": ("text", fusion(graph)),
        "window": ("text", window()),
        "ir": ("llvm", ir(graph)),
        "assembly": ("asm", machine(graph)),
        "whole": ("text", whole(graph)),
    }


def render(page: str) -> str:
    """The page with its excerpts made anew."""
    made = excerpts()
    found = {name for _, name, _ in BLOCK.findall(page)}
    if found != set(made):
        raise ValueError(f"{PAGE.name}: expected blocks for {sorted(made)}; got {sorted(found)}.")

    def block(match: re.Match[str]) -> str:
        language, text = made[match[2]]
        return f"{match[1]}```{language}\n{text}\n```\n{match[3]}"

    return BLOCK.sub(block, page)


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        for name, (_, text) in excerpts().items():
            print(f"==== {name}\n{text}\n")
