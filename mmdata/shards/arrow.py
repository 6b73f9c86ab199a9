"""A quick start of pyarrow in the processes of a run."""

from __future__ import annotations

import importlib.abc
import sys
from typing import Any

import pyarrow as pa


class _NoPandas(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("no pandas while pyarrow looks for it", name="pandas")


def start_without_pandas() -> None:
    """Have pyarrow look for pandas now, once, and find none; for processes that are ours alone.

    Where it is installed, the first list that becomes an array imports it, only to ask whether that list is a Series:
    half a second in every worker of every run.
    """
    if "pandas" in sys.modules:
        return
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(finder)
