"""Export of what moves numbers: shapes, parts, padding, repeats, blocks and resizing."""

from __future__ import annotations

from striate.formats.onnx.site import Site, exports

_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}


@exports("reshape")
def reshape(s: Site) -> str:
    return s.b.reshape(s.x, s.shape)


@exports("permute")
def permute(s: Site) -> str:
    return s.b.op("Transpose", s.x, perm=[0, *(int(k) for k in s.attributes["order"])])


@exports("concat")
def concat(s: Site) -> str:
    return s.b.op("Concat", *s.inputs, axis=int(s.attributes["axis"]))


@exports("slice")
def part(s: Site) -> str:
    a = s.attributes
    limits = [s.b.integers([int(a[key])]) for key in ("start", "stop", "axis")]
    return s.b.op("Slice", s.x, *limits)


@exports("flip")
def flip(s: Site) -> str:
    axes = [int(k) for k in s.attributes["axes"]]
    count = len(axes)
    limits = [s.b.integers(k) for k in ([-1] * count, [-(2**31)] * count, axes, [-1] * count)]
    return s.b.op("Slice", s.x, *limits)


@exports("tile")
def tile(s: Site) -> str:
    return s.b.op("Tile", s.x, s.b.integers([1, *(int(k) for k in s.attributes["repeats"])]))


@exports("pad")
def pad(s: Site) -> str | None:
    pairs, mode = [tuple(map(int, k)) for k in s.attributes["padding"]], s.attributes["mode"]
    known = _MODES | ({"circular": "wrap"} if s.b.opset >= 19 else {})
    if mode not in known or any(k < 0 for pair in pairs for k in pair):
        return None
    none = [0] * (len(s.shapes[0]) + 1 - len(pairs))  # the batch, and axes before the padded ones
    pads = [*none, *(before for before, _ in pairs), *none, *(after for _, after in pairs)]
    return s.b.pad(s.x, pads, known[mode], float(s.attributes["value"]))


@exports("pixel_shuffle")
def pixel_shuffle(s: Site) -> str | None:
    if len(s.shapes[0]) != 3:
        return None
    return s.b.op("DepthToSpace", s.x, blocksize=int(s.attributes["factor"]), mode="CRD")


@exports("channel_shuffle")
def channel_shuffle(s: Site) -> str:
    (channels, *space), groups = s.shapes[0], int(s.attributes["groups"])
    apart = s.b.reshape(s.x, [groups, channels // groups, *space])
    rest = range(3, 3 + len(space))
    return s.b.reshape(s.b.op("Transpose", apart, perm=[0, 2, 1, *rest]), s.shapes[0])


@exports("resize")
def resize(s: Site) -> str | None:
    """Sizes decide how far apart the places lie, unless a scale was given that says otherwise."""
    a = s.attributes
    mode = str(a["mode"])
    natural = a["steps"] is None or all(
        step == size / count
        for step, size, count in zip(a["steps"], s.image, a["output"], strict=True)
    )
    if not natural or a["antialias"] or (mode == "cubic" and len(s.image) != 2):
        return None
    places = "align_corners" if a["align_corners"] else "half_pixel"
    more = {}
    if mode.startswith("nearest"):
        exact = mode == "nearest-exact"
        places = "half_pixel" if exact else "asymmetric"
        more = {"nearest_mode": "round_prefer_ceil" if exact else "floor"}
    batch = s.b.op("Gather", s.b.op("Shape", s.x), s.b.integers([0]))
    sizes = s.b.op("Concat", batch, s.b.integers(s.shape), axis=0)
    return s.b.op(
        "Resize",
        *(s.x, "", "", sizes),
        mode="nearest" if more else mode,
        coordinate_transformation_mode=places,
        cubic_coeff_a=-0.75 if mode == "cubic" else None,
        **more,
    )
