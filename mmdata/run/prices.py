"""What a run costs, by a table of prices that the user gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import annotated_types as at

from mmdata.errors import ConfigError
from mmdata.options import build, operational
from mmdata.run.intervals import Interval
from mmdata.yaml_file import read_yaml

Price = Annotated[float, at.Ge(0)]


@dataclass(frozen=True, kw_only=True)
class Prices:
    """Prices of one hour of one processor or GPU, one GB (1e9 bytes) kept for a month, and one GB fetched."""

    cpu_hour: Price = operational()
    gpu_hour: Price = operational()
    gb_month: Price = operational()
    gb_network: Price = operational()
    currency: Annotated[str, at.Len(1, 12)] = operational("USD")


def read_prices(path: str) -> Prices:
    """The table in a YAML file. Raises ConfigError naming every price that is missing, unknown or no number."""
    tree = read_yaml(Path(path))
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: found {type(tree).__name__}, allowed is a mapping: cpu_hour: 0.04 ...")
    return build(Prices, tree, path)


@dataclass(frozen=True)
class Cost:
    """What the run costs once, and what keeping its files costs each month."""

    cpu: Interval
    gpu: Interval
    network: Interval
    month: Interval
    currency: str

    @property
    def once(self) -> Interval:
        return self.cpu.plus(self.gpu).plus(self.network)


def cost_of(prices: Prices, cpu_hours: Interval, gpu_hours: Interval, network: Interval, stored: Interval) -> Cost:
    """network, stored: bytes."""
    return Cost(
        cpu_hours.times(prices.cpu_hour),
        gpu_hours.times(prices.gpu_hour),
        network.times(prices.gb_network / 1e9),
        stored.times(prices.gb_month / 1e9),
        prices.currency,
    )
