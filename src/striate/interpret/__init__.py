"""What a network looks at: maps of an image, images that a unit likes, and tests of such maps.

Arrays in, arrays out; how they are drawn is in `striate.plot`. Every method takes any network with
one image input, imported ones included, and reads it as it is in evaluation.
"""

__all__: list[str] = []
