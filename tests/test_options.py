"""Options: a mapping from YAML becomes an option class, or every problem in it is named with its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import annotated_types as at
import pytest

from mmdata.errors import ConfigError
from mmdata.options import build, nearest, operational, outcome, semantic, values_of

PLACE = "p.yaml: stages[0].crop"


@dataclass(frozen=True, kw_only=True)
class Crop:
    """Options as a stage declares them."""

    side_px: Annotated[int, at.Ge(1)] = semantic()
    resize: Literal["keep_ratio", "crop"] = semantic("keep_ratio")
    ports: list[int] = semantic(factory=lambda: [80])
    timeout_s: Annotated[float, at.Gt(0)] = outcome(5.0)
    threads: Annotated[int, at.Ge(0)] = operational(0)

    def __post_init__(self) -> None:
        if self.resize == "crop" and self.side_px > 1000:
            raise ValueError("side_px: a crop may have 1000")


def _problems(values: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        build(Crop, values, PLACE)
    return str(caught.value).splitlines()


def test_given_values_and_defaults_make_the_options() -> None:
    assert build(Crop, {"side_px": 256}, PLACE) == Crop(side_px=256)
    assert build(Crop, {"side_px": 9, "timeout_s": 1}, PLACE).timeout_s == 1.0


def test_two_instances_share_no_list() -> None:
    build(Crop, {"side_px": 1}, PLACE).ports.append(1)
    assert build(Crop, {"side_px": 1}, PLACE).ports == [80]


def test_an_unknown_option_is_named_with_place_nearest_and_allowed() -> None:
    assert _problems({"side_px": 1, "threds": 2}) == [
        f"{PLACE}.threds: no such option (did you mean threads?); allowed: side_px, resize, ports, timeout_s, threads"
    ]


def test_all_unknown_options_are_named_at_once() -> None:
    lines = _problems({"threds": 2, "sid_px": 1, "zzz": 0})
    assert [line.partition(": no such option")[0] for line in lines] == [
        f"{PLACE}.{n}" for n in ("threds", "sid_px", "zzz")
    ]
    assert "did you mean" not in lines[2]


def test_several_wrong_values_are_named_at_once() -> None:
    lines = _problems({"side_px": 0, "resize": "stretch", "timeout_s": "soon", "threads": -1})
    assert [line.partition(":")[2].strip().partition(":")[0] for line in lines] == [
        f"stages[0].crop.{name}" for name in ("side_px", "resize", "timeout_s", "threads")
    ]
    assert "found 0, but input should be greater than or equal to 1" in lines[0]
    assert "found 'stretch', but input should be 'keep_ratio' or 'crop'" in lines[1]
    assert "found 'soon'" in lines[2]
    assert "found -1" in lines[3]


def test_a_missing_option_is_required() -> None:
    assert _problems({}) == [f"{PLACE}.side_px: is required"]
    assert _problems(None) == [f"{PLACE}.side_px: is required"]


def test_an_item_of_a_list_is_named_by_its_index() -> None:
    (line,) = _problems({"side_px": 1, "ports": [80, "http"]})
    assert line.startswith(f"{PLACE}.ports.1: found 'http', but ")


@pytest.mark.parametrize("values", [["side_px"], "side_px", 3])
def test_anything_but_a_mapping_is_refused(values: Any) -> None:
    (line,) = _problems(values)
    assert line.startswith(f"{PLACE}: found {type(values).__name__} ")
    assert line.endswith("allowed is a mapping of options")


@pytest.mark.parametrize("value", [2.5, [1], {"a": 1}, None, "many"])
def test_a_value_of_another_type_is_refused_with_what_was_found(value: Any) -> None:
    (line,) = _problems({"side_px": value})
    assert line.startswith(f"{PLACE}.side_px: found {value!r}, but ")


def test_a_rule_between_options_speaks_for_itself() -> None:
    (line,) = _problems({"side_px": 1001, "resize": "crop"})
    assert "side_px: a crop may have 1000" in line
    assert line.startswith(PLACE)


def test_a_key_that_is_no_text_is_named() -> None:
    (line,) = _problems({"side_px": 1, 7: 2})
    assert line.startswith(f"{PLACE}.7: no such option")


def test_values_are_given_by_role_in_the_order_of_declaration() -> None:
    options = Crop(side_px=3)
    assert list(values_of(options, "semantic").items()) == [("side_px", 3), ("resize", "keep_ratio"), ("ports", [80])]
    assert values_of(options, "outcome") == {"timeout_s": 5.0}
    assert values_of(options, "operational") == {"threads": 0}
    assert list(values_of(options, "operational", "semantic")) == ["side_px", "resize", "ports", "threads"]


def test_only_a_close_name_is_suggested() -> None:
    assert nearest("tresholds", ["thresholds", "dedup"]) == " (did you mean thresholds?)"
    assert nearest("zzz", ["thresholds", "dedup"]) == ""
