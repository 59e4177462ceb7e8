"""Data sets: by name, arrays, folders and tar files of pictures; augmentation and loading.

    train, test = st.data.load("path/to/pictures")
    augment = st.data.augmentation("flip,crop4,cutout8")

A data source (`Source`) gives batches of samples by number; a `Loader` prepares them ahead, in the
order it is given, with steps of augmentation.
"""

from striate.data.adapt import MapSource, as_source
from striate.data.archive import unpack
from striate.data.augment import Augmentation, Compose, Mixing, Warp
from striate.data.augment_colour import ColourJitter, Normalize
from striate.data.augment_geometry import Affine, Elastic, Flip, PadCrop
from striate.data.augment_mix import CutMix, Cutout, Mixup
from striate.data.augment_text import augmentation
from striate.data.dataset import DataSet, as_dataset
from striate.data.folder import ImageFolder
from striate.data.loader import Loader
from striate.data.look import Statistics, preview, statistics
from striate.data.named import load
from striate.data.pictures import Picture, read_picture
from striate.data.shards import TarShards
from striate.data.source import ArraySource, Source

__all__ = [
    "Affine",
    "ArraySource",
    "Augmentation",
    "ColourJitter",
    "Compose",
    "CutMix",
    "Cutout",
    "DataSet",
    "Elastic",
    "Flip",
    "ImageFolder",
    "Loader",
    "MapSource",
    "Mixing",
    "Mixup",
    "Normalize",
    "PadCrop",
    "Picture",
    "Source",
    "Statistics",
    "TarShards",
    "Warp",
    "as_dataset",
    "as_source",
    "augmentation",
    "load",
    "preview",
    "read_picture",
    "statistics",
    "unpack",
]
