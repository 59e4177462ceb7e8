"""Embedding: a learned vector for each whole number."""

from __future__ import annotations

from typing import Any

import numpy as np

from striate.errors import OptionError
from striate.nn import functional as F
from striate.nn import init
from striate.nn.arguments import check_kind, whole
from striate.nn.functional_linear import padding_row, refuse_embedding
from striate.nn.module import Module
from striate.nn.parameter import Parameter


class Embedding(Module):
    """`y[n,…,d] = weight[x[n,…], d]`: the row of a table for each number.

    Args:
        num_embeddings: rows of the table.
        embedding_dim: numbers of a row.
        padding_idx: a row that is 0 at first and gets no gradient; a negative one counts from the
            end.
    Input: (n, …), whole numbers from 0 as any dtype. Output: (n, …, embedding_dim). In a network a
        number that counts no row gives NaN.
    Parameters: weight (num_embeddings, embedding_dim), N(0, 1) at first.

    >>> Embedding(10, 3)(np.array([[1, 2, 4, 5], [4, 3, 2, 9]])).shape
    (2, 4, 3)
    """

    one_node = True

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Any = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_kind("Embedding", device, dtype)
        self.num_embeddings = whole(num_embeddings, "Embedding", "num_embeddings")
        self.embedding_dim = whole(embedding_dim, "Embedding", "embedding_dim")
        for name, value in (
            ("max_norm", max_norm),
            ("norm_type", norm_type),
            ("scale_grad_by_freq", scale_grad_by_freq),
            ("sparse", sparse),
        ):
            refuse_embedding("Embedding", name, value)
        row = padding_row("Embedding", padding_idx, self.num_embeddings)
        self.padding_idx = None if row < 0 else row
        shape = (self.num_embeddings, self.embedding_dim)
        if _weight is not None:
            if np.shape(_weight) != shape:
                raise OptionError(
                    f"Embedding: expected a weight of shape {shape}; got {np.shape(_weight)}."
                )
            self.weight = Parameter(_weight)
            return
        self.weight = Parameter(np.empty(shape, np.float32))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw fresh rows from N(0, 1); the padding row is 0."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            self.weight.data[self.padding_idx] = 0

    @classmethod
    def from_pretrained(
        cls, embeddings: Any, freeze: bool = False, padding_idx: int | None = None
    ) -> Embedding:
        """A layer with a table that is there already; it goes on being trained.

        Args:
            embeddings: (num_embeddings, embedding_dim).
            freeze: only False (torch's default is True): parameters of a network are trained.
            padding_idx: as of the layer.
        """
        if freeze:
            raise OptionError(
                "Embedding.from_pretrained: expected freeze=False; got freeze=True. Every "
                "parameter of a network is trained; look the rows up before it to keep them."
            )
        table = np.asarray(embeddings)
        if table.ndim != 2:
            raise OptionError(
                f"Embedding.from_pretrained: expected (num_embeddings, embedding_dim); got shape "
                f"{table.shape}."
            )
        rows, dim = table.shape
        return cls(rows, dim, padding_idx=padding_idx, _weight=table)

    def forward(self, input: Any) -> Any:
        """The rows that the numbers name."""
        return F.embedding(input, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        more = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{more}"
