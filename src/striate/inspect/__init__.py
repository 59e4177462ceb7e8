"""Looking into networks: what each layer is and costs, and why a number is what it is."""

from striate.inspect.explain import Explanation, explain, needed_values
from striate.inspect.summary import Row, Summary, summarize, summary

__all__ = ["Explanation", "Row", "Summary", "explain", "needed_values", "summarize", "summary"]
