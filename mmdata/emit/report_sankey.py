"""Rows from source over modality to what became of them, as bands: inline SVG, once for wide screens, once for narrow.

Colours tell what became of the rows, all the way from their source.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mmdata.emit.report_drawing import band, svg, tag
from mmdata.emit.report_rows import UNEXPLAINED, Rows
from mmdata.emit.report_text import clean, count, share

MOST_SOURCES = 14  # the rest is one band
_OTHERS = "other sources"
_ORDER = ("kept", "waiting", "dropped", "failed")
_GAP = 10.0
_LEAST = 1.2  # height of a node, so that one row can be seen among millions


@dataclass(frozen=True)
class Stream:
    """Rows of one source and modality that ended alike. became: kept | waiting | dropped | failed; end: its words."""

    source: str
    modality: str
    became: str
    end: str
    rows: int


def streams_of(rows: Rows) -> list[Stream]:
    """All rows; those that are lost by the group of their reason, sources beyond the largest as one."""
    found = rows.ask(
        f"""
        SELECT coalesce(source, ''), coalesce(modality, ''),
            CASE WHEN fate = 'kept' THEN 'kept' WHEN fate LIKE 'wait%' THEN 'waiting'
                WHEN split_part(reason, '.', 1) IN ('filtered', 'policy', 'blocked', '{UNEXPLAINED}') THEN 'dropped'
                ELSE 'failed' END AS became,
            CASE WHEN fate = 'kept' THEN 'kept' WHEN fate LIKE 'wait%' THEN 'waiting'
                ELSE split_part(reason, '.', 1) END AS stop, count(*)
        FROM rows GROUP BY ALL ORDER BY ALL
        """
    )
    sizes = Counter[str]()
    for source, *_, number in found:
        sizes[source] += number
    largest = {name for name, _ in sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:MOST_SOURCES]}
    merged = Counter[tuple[str, str, str, str]]()
    for source, modality, became, stop, number in found:
        merged[source if source in largest else _OTHERS, modality, became, stop] += number
    return [Stream(*names, number) for names, number in merged.items()]


def sankey(streams: Sequence[Stream]) -> Markup:
    """Both pictures; the style sheet shows the one that fits."""
    ends = Counter[str]()
    for stream in streams:
        ends[stream.end] += stream.rows
    label = "Rows by source and modality: " + ", ".join(f"{name} {count(rows)}" for name, rows in ends.most_common())
    middle: list[Callable[[Stream], str]] = [lambda stream: stream.modality]
    wide = _Picture(streams, [_source, *middle, _end], 1120.0, 190.0, 190.0, 28, 320.0, "wide")
    narrow = _Picture(streams, [_source, _end], 340.0, 126.0, 108.0, 16, 330.0, "narrow")
    return wide.drawn(label) + narrow.drawn(label)


def _source(stream: Stream) -> str:
    return stream.source


def _end(stream: Stream) -> str:
    return stream.end


class _Picture:
    """One picture: columns of nodes, one for each of `layers`, and the bands between them.

    chars: of a label, name and number, that there is room for beside the first and the last column.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        layers: Sequence[Callable[[Stream], str]],
        width: float,
        left: float,
        right: float,
        chars: int,
        height: float,
        class_: str,
    ) -> None:
        self._streams = sorted(streams, key=lambda stream: (_ORDER.index(stream.became), stream.end, stream.source))
        self._layers = layers
        self._width, self._class, self._chars = width, class_, chars
        self._node = 10.0 if class_ == "wide" else 7.0
        step = (width - left - right - self._node) / (len(layers) - 1)
        self._xs = [left + step * number for number in range(len(layers))]
        self._total = max(sum(stream.rows for stream in streams), 1)
        self._scale = height / self._total
        self._nodes = [self._placed(layer, number) for number, layer in enumerate(layers)]
        self._bottom = max(y + tall for nodes in self._nodes for y, tall, _ in nodes.values())

    def _placed(self, layer: Callable[[Stream], str], number: int) -> dict[str, tuple[float, float, int]]:
        """Upper edge, height and rows of every node of a layer, by name; labels keep their distance."""
        sizes, ranks = Counter[str](), dict[str, int]()
        for stream in self._streams:
            sizes[layer(stream)] += stream.rows
            ranks.setdefault(layer(stream), _ORDER.index(stream.became))
        is_last = number == len(self._layers) - 1
        names = sorted(sizes, key=lambda name: (ranks[name] if is_last else 0, -sizes[name], name))
        least = 17.0 if number in (0, len(self._layers) - 1) else 30.0
        nodes, y = {}, 8.0
        for name in names:
            tall = max(sizes[name] * self._scale, _LEAST)
            nodes[name] = (y, tall, sizes[name])
            y += max(tall + _GAP, least)
        return nodes

    def drawn(self, label: str) -> Markup:
        marks = [*self._bands()]
        for number, nodes in enumerate(self._nodes):
            marks += [mark for name, node in nodes.items() for mark in self._labelled(number, name, node)]
        return svg(self._width, self._bottom + 12, marks, label, f"sankey {self._class}")

    def _bands(self) -> list[Markup]:
        bands = []
        for number in range(len(self._layers) - 1):
            sizes = Counter[tuple[str, str, str]]()
            for stream in self._streams:
                sizes[self._layers[number](stream), self._layers[number + 1](stream), stream.became] += stream.rows
            out, into = ({name: y for name, (y, _, _) in self._nodes[side].items()} for side in (number, number + 1))
            order = {name: place for side in (number, number + 1) for place, name in enumerate(self._nodes[side])}
            # Bands leave a node in the order in which they arrive, so that they do not cross at once.
            leaving = sorted(sizes, key=lambda key: (order[key[0]], order[key[1]], _ORDER.index(key[2])))
            starts = {}
            for key in leaving:
                starts[key] = out[key[0]]
                out[key[0]] += sizes[key] * self._scale
            for key in sorted(sizes, key=lambda key: (order[key[1]], order[key[0]], _ORDER.index(key[2]))):
                thick = sizes[key] * self._scale
                title = tag("title", f"{clean(key[0], 60)} to {key[1]}: {count(sizes[key])} {key[2]}")
                x0, x1 = self._xs[number] + self._node, self._xs[number + 1]
                bands.append(band(x0, starts[key], x1, into[key[1]], max(thick, 0.6), f"flow {key[2]}", title))
                into[key[1]] += thick
        return bands

    def _labelled(self, number: int, name: str, node: tuple[float, float, int]) -> list[Markup]:
        y, tall, rows = node
        x = self._xs[number]
        marks = [tag("rect", x=x, y=y, width=self._node, height=tall, rx=1.5, class_="node plain")]
        middle = y + tall / 2 + 4
        shown = clean(name, self._chars - 1 - len(count(rows))) or "(none)"
        if number == 0:
            marks.append(tag("text", shown, " ", tag("tspan", count(rows), class_="soft"), x=x - 6, y=middle,
                             text_anchor="end"))  # fmt: skip
        elif number == len(self._layers) - 1:
            told = f"{count(rows)}  {share(rows, self._total)}" if self._class == "wide" else count(rows)
            marks.append(tag("text", shown, " ", tag("tspan", told, class_="soft"), x=x + self._node + 6, y=middle))
        else:
            marks.append(tag("text", shown, " ", tag("tspan", count(rows), class_="soft"), x=x + self._node + 6,
                             y=middle, class_="halo"))  # fmt: skip
        return marks
