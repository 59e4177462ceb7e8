"""Explanations as JSON data; numbers that JSON lacks are "inf", "-inf" or "nan"."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from striate.formula.terms import Place, Step, Terms
from striate.inspect.explain_rounding import Ordered, ulps

if TYPE_CHECKING:
    from striate.inspect.explain import Explanation, Stage
    from striate.inspect.explain_gradient import GradientExplanation


def explanation_dict(found: Explanation) -> dict[str, Any]:
    """An explanation with all its terms."""
    return {
        "node": found.node,
        "at": list(found.at),
        "sample": found.sample,
        "value": number(found.value),
        "native": number(found.native),
        "agrees": found.agrees,
        "stages": [_stage(stage) for stage in found.stages],
    }


def _stage(stage: Stage) -> dict[str, Any]:
    return {
        "node": stage.node,
        "op": stage.op,
        "at": list(stage.at),
        "formula": stage.formula,
        "latex": stage.latex,
        "tensors": dict(stage.tensors),
        "value": number(stage.value),
        "native": number(stage.native),
        "difference": number(stage.difference),
        "allowed": number(stage.allowed),
        "agrees": stage.agrees,
        "in_order": order(stage.ordered, stage.native),
        "step": step(stage.step),
    }


def order(found: Ordered, native: float | None) -> dict[str, Any]:
    """The number added up in the stated order, and how far the program's is from it."""
    data: dict[str, Any] = {"axes": list(found.axes), "value": number(found.value)}
    if found.fused is not None:
        data["fused"] = number(found.fused)
    if native is not None:
        data["ulps"] = ulps(found.value, native)
        if found.fused is not None:
            data["fused_ulps"] = ulps(found.fused, native)
    return data


def step(found: Step) -> dict[str, Any]:
    """A step with all that it is made of."""
    data: dict[str, Any] = {"kind": found.kind, "text": found.text, "value": number(found.value)}
    if found.parts:
        data["parts"] = [step(part) for part in found.parts]
    if found.places:
        data["places"] = [_place(place) for place in found.places]
    if found.terms:
        data["terms"] = terms(found.terms)
    return data


def terms(found: Terms) -> list[dict[str, Any]]:
    """Every term."""
    data: list[dict[str, Any]] = []
    for term in found:
        entry: dict[str, Any] = {
            "at": dict(term.at),
            "places": [_place(place) for place in term.places],
            "value": number(term.value),
        }
        if term.slope is not None:
            entry["slope"] = number(term.slope)
        data.append(entry)
    return data


def _place(place: Place) -> dict[str, Any]:
    return {
        "tensor": place.tensor,
        "index": list(place.index),
        "value": number(place.value),
        "padding": not place.inside,
    }


def number(value: float | None) -> float | str | None:
    """A number that JSON can hold."""
    return value if value is None or math.isfinite(value) else str(value)


def gradient_dict(found: GradientExplanation) -> dict[str, Any]:
    """The explanation of a gradient with all its terms."""
    return {
        "node": found.node,
        "at": list(found.at),
        "sample": found.sample,
        "of": found.of,
        "value": number(found.value),
        "native": number(found.native),
        "difference": number(found.difference),
        "allowed": number(found.allowed),
        "agrees": found.agrees,
        "in_order": order(found.ordered, found.native),
        "parts": [
            {
                "node": part.node,
                "op": part.op,
                "argument": part.argument,
                "formula": part.formula,
                "tensors": dict(part.tensors),
                "value": number(part.value),
                "terms": terms(part.step.terms),
            }
            for part in found.parts
        ],
    }
