"""SQL expressions from a pipeline file: parsed by DuckDB, held to what has no side effect, and written out again."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mmdata.errors import ConfigError
from mmdata.options import nearest
from mmdata.select.workspace import literal

# Node classes of DuckDB's parse tree that compute a value of one row from values of it.
_CLASSES = frozenset(
    {"BETWEEN", "CASE", "CAST", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION", "OPERATOR", "TYPE"}
)
# Functions of one row that give the same value on any machine, at any time.
_OPERATORS = frozenset(
    {"+", "-", "*", "/", "//", "%", "**", "^", "&", "|", "<<", ">>", "||", "~~", "!~~", "~~*", "!~~*", "~~~"}
)
_NUMBERS = frozenset(
    {"abs", "bit_count", "ceil", "exp", "floor", "isfinite", "isinf", "isnan", "ln", "log", "log10", "log2", "mod"}
    | {"pow", "power", "round", "sign", "sqrt", "trunc", "xor"}
)
_TEXTS = frozenset(
    {"concat", "concat_ws", "contains", "ends_with", "left", "len", "length", "levenshtein", "like_escape", "lower"}
    | {"ltrim", "not_like_escape", "prefix", "regexp_extract", "regexp_full_match", "regexp_matches", "regexp_replace"}
    | {"replace", "right", "rtrim", "split_part", "starts_with", "strip_accents", "strlen", "string_split"}
    | {"string_split_regex", "strpos", "substr", "substring", "suffix", "trim", "unicode", "upper"}
)
_OTHERS = frozenset(
    {"coalesce", "greatest", "ifnull", "least", "list_contains", "list_has_any", "list_value", "nullif"}
)
_FUNCTIONS = _OPERATORS | _NUMBERS | _TEXTS | _OTHERS


@dataclass(frozen=True)
class Expression:
    """An expression over the columns of one row. sql: with every column quoted by its whole name."""

    text: str
    sql: str
    columns: frozenset[str]


@functools.lru_cache(maxsize=256)
def parse_expression(text: str, where: str) -> Expression:
    """The expression with its columns. `image_text.clip_similarity` names a column by its place.

    Raises ConfigError for what is no single expression, and for subqueries, windows, aggregates and functions that are
    not in the list.
    """
    tree = _tree(text, where)
    columns: set[str] = set()
    for node in _nodes(tree, where):
        if node["class"] == "COLUMN_REF":
            name = ".".join(node["column_names"])
            columns.add(name)
            node["column_names"] = [name]
        if node["class"] == "FUNCTION":
            function = node["function_name"].lower()
            if function not in _FUNCTIONS or node.get("schema") or node.get("catalog"):
                raise ConfigError(
                    f"{where}: {text!r}: found function {function}{nearest(function, _FUNCTIONS)}; "
                    f"allowed: {', '.join(sorted(name for name in _FUNCTIONS if name[0].isalpha()))}"
                )
    return Expression(text, _written(tree), frozenset(columns))


def _tree(text: str, where: str) -> dict[str, Any]:
    answer = json.loads(_ask("SELECT json_serialize_sql(?::VARCHAR)", f"SELECT ({text}\n)"))
    if answer.get("error"):
        raise ConfigError(f"{where}: {text!r} is no SQL expression: {answer.get('error_message')}")
    statements = answer["statements"]
    select = statements[0]["node"] if len(statements) == 1 else {}
    plain = (
        select.get("type") == "SELECT_NODE"
        and len(select["select_list"]) == 1
        and (select.get("from_table") or {"type": "EMPTY"})["type"] == "EMPTY"
        and not any(
            select.get(part) for part in ("where_clause", "group_expressions", "having", "qualify", "modifiers")
        )
    )
    if not plain:
        raise ConfigError(f"{where}: {text!r}: found a query, allowed is one expression over the columns of a row")
    root: dict[str, Any] = select["select_list"][0]
    return root


def _nodes(tree: Any, where: str) -> Iterator[dict[str, Any]]:
    """Every node below, wherever it hangs, so that nothing is left unseen."""
    if isinstance(tree, list):
        for item in tree:
            yield from _nodes(item, where)
    elif isinstance(tree, dict):
        kind = tree.get("class")
        if kind is not None and kind not in _CLASSES:
            raise ConfigError(f"{where}: found {kind.lower()} in an expression, allowed are columns, values, operators")
        if kind is not None:
            yield tree
        for value in tree.values():
            if kind != "CONSTANT":
                yield from _nodes(value, where)


def _written(root: dict[str, Any]) -> str:
    blank = json.loads(_ask("SELECT json_serialize_sql(?::VARCHAR)", "SELECT 1"))
    blank["statements"][0]["node"]["select_list"] = [root | {"alias": ""}]
    # The function wants its argument as a constant.
    sql = _ask(f"SELECT json_deserialize_sql({literal(json.dumps(blank))}::JSON)")
    return f"({sql.removeprefix('SELECT ')})"


def _ask(query: str, *values: str) -> str:
    with _parser().cursor() as cursor:
        return str(cursor.execute(query, list(values)).fetchone()[0])


@functools.cache
def _parser() -> Any:
    """A database without tables, files and network."""
    import duckdb

    return duckdb.connect(":memory:", config={"enable_external_access": False, "threads": 1})
