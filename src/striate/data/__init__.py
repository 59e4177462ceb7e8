"""Data sets: loading them by name, arrays as data sets, single pictures for prediction."""

from striate.data.dataset import DataSet, as_dataset
from striate.data.named import load
from striate.data.pictures import Picture, read_picture

__all__ = ["DataSet", "Picture", "as_dataset", "load", "read_picture"]
