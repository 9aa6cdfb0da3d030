"""The tasks of the benchmark, the embedded world they run in, and its oracle."""

if __name__ != "sfbench.tasks":
    raise ImportError(
        "import this package as `sfbench.tasks` (run `pip install -e .` in the checkout first)"
    )
