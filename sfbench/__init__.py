"""sfbench: a benchmark of exposure bias, drift and latency for autoregressive video generators."""

__version__ = "0.1.0"
