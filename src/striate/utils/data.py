"""`torch.utils.data`: data sets by number; the loader is a part of `striate.fit`."""

from __future__ import annotations

from typing import Any

import numpy as np

from striate.errors import OptionError

__all__ = ["DataLoader", "Dataset", "TensorDataset"]


class Dataset:
    """Base of data sets with `__len__` and `__getitem__(k)`, which gives (sample, target)."""

    def __class_getitem__(cls, item: Any) -> type[Dataset]:
        return cls

    def __getitem__(self, index: int) -> Any:
        raise OptionError(
            f"{type(self).__name__}: expected a method __getitem__(self, index); got none."
        )


class TensorDataset(Dataset):
    """Arrays of equal length: sample k is (a[k], b[k], …).

    >>> len(TensorDataset(np.zeros((3, 2)), np.arange(3)))
    3
    """

    def __init__(self, *tensors: Any) -> None:
        self.tensors = tuple(np.asarray(k) for k in tensors)
        if len({len(k) for k in self.tensors}) != 1:
            shapes = ", ".join(str(k.shape) for k in self.tensors) or "none"
            raise OptionError(f"TensorDataset: expected arrays of equal length; got {shapes}.")

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return tuple(k[index] for k in self.tensors)


class DataLoader:
    """Refused: `striate.fit` makes the batches itself."""

    def __init__(self, dataset: Any = None, batch_size: int = 1, **options: Any) -> None:
        raise OptionError(
            "DataLoader: expected the data set itself, since fit shuffles and batches; got a "
            f"loader of batch_size={batch_size}. Write striate.fit(net, dataset, "
            f"batch_size={batch_size}, epochs=...)."
        )
