"""The paper's tables at the scale of the demo model: ``python -m benchmarks.study`` (see ``__main__``)."""
