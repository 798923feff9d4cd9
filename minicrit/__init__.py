"""MiniCrit: a critic that reads a rationale and says whether its reasoning is valid or flawed."""

__version__ = "0.1.0"
