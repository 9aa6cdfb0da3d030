"""A stand-alone implementation of Self Forcing (Huang et al., 2025) and its baselines."""

if __name__ != "sfbench.reference":
    raise ImportError(
        "import this package as `sfbench.reference` (run `pip install -e .` in the checkout first)"
    )
