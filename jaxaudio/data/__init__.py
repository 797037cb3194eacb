"""Data sets, mixing and input pipelines."""
