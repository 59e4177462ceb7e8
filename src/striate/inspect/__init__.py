"""Looking into networks: what each layer is and costs, why a number is what it is, its matrix."""

from striate.inspect.compare import Comparison, compare
from striate.inspect.convert import as_conv, as_linear
from striate.inspect.cost import Cost, SparseVersusDense, cost, sparse_versus_dense
from striate.inspect.effective import EffectiveField, effective_receptive_field
from striate.inspect.explain import Explanation, explain, explain_node, needed_values
from striate.inspect.explain_gradient import GradientExplanation, explain_gradient
from striate.inspect.matrix import matrix
from striate.inspect.one_input import OneInput
from striate.inspect.probe import Probe
from striate.inspect.receptive import ReceptiveField, ReceptiveFields, receptive_field
from striate.inspect.regions import Region, input_region, units_reached
from striate.inspect.summary import Row, Summary, summarize, summary

__all__ = [
    "Comparison",
    "Cost",
    "EffectiveField",
    "Explanation",
    "GradientExplanation",
    "OneInput",
    "Probe",
    "ReceptiveField",
    "ReceptiveFields",
    "Region",
    "Row",
    "SparseVersusDense",
    "Summary",
    "as_conv",
    "as_linear",
    "compare",
    "cost",
    "effective_receptive_field",
    "explain",
    "explain_gradient",
    "explain_node",
    "input_region",
    "matrix",
    "needed_values",
    "receptive_field",
    "sparse_versus_dense",
    "summarize",
    "summary",
    "units_reached",
]
