"""Text stages against a bare loop over the same libraries: captions/s of one core, with and without language.

Paired: every round times the bare loop (ftfy, html, unicodedata, py3langid, jieba or a regular expression for words,
tokenizers; nothing is checked, masked or counted) and the stages that use these libraries (clean_text, language,
text_stats, tokenise) on the same 20,000 captions in memory, by the processor's time. All six stages, with masks, rules
and SimHash, are timed too, in this process and through the runner's child process; there the time of both processes
counts.

Captions: five human ones of each photograph of ../shared/data/photos where that is there, else drawn from the words of
the README; of these one in ten Chinese, one in ten accented, and one in twenty with planted mojibake, markup, entities,
e-mail addresses, links and file names.
"""

from __future__ import annotations

import html
import itertools
import json
import random
import re
import statistics
import time
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from mmdata.options import ROLES, values_of
from mmdata.run.sandbox import Sandbox
from mmdata.sample import Sample
from mmdata.text import tokenizer_file
from mmdata.text.caption_rules import CaptionRules
from mmdata.text.clean_text import CleanText
from mmdata.text.language import Language
from mmdata.text.text_hash import TextHash
from mmdata.text.text_stats import TextStats
from mmdata.text.tokenise import Tokenise
from tests.bench.table import README, Row

PHOTOS = Path(__file__).parents[3] / "shared" / "data" / "photos" / "captions.jsonl"
TOKENIZER = Path(__file__).parents[2] / "pipelines" / "demo" / "encoder" / "checkpoint" / "tokenizer.json"
CAPTIONS, ROUNDS, PROMISED = 20_000, 5, 0.8
_WORD = re.compile(r"\w+")
_CHINESE = (
    "一只棕色的小狗在草地上奔跑",
    "两个孩子在海边玩沙子",
    "一位老人坐在公园的长椅上看报纸",
    "城市夜景，灯光倒映在河面上",
)
_ACCENTED = (
    "Un café crème près de la fenêtre",
    "Zwei Mädchen spielen im Schnee",
    "Niño corriendo detrás de una pelota",
)
_NOISE: tuple[Callable[[str], str], ...] = (
    lambda text: f"{text} caf\xc3\xa9 \u00e2\u20ac\u201c d\xc3\xa9j\xc3\xa0 vu",
    lambda text: f"<p>{text}<br/><b>bold</b></p>",
    lambda text: f"{text} &amp;amp; &copy; &#128054;",
    lambda text: f"{text} contact joe.doe@example.com or https://example.com/a?b=c",
    lambda text: f"{text} call +1 (555) 123-4567 @photographer",
    lambda text: f"  {text}\u200b\u00a0\t{text}  ",
    lambda text: "IMG_20210503_123456.jpg",
    lambda text: "Image may contain: one or more people, outdoor",
)


def captions(number: int) -> list[str]:
    """The captions, the same at every call."""
    draw = random.Random(17)
    if PHOTOS.is_file():
        with PHOTOS.open(encoding="utf-8") as lines:
            real = [caption for line in lines for caption in json.loads(line)["captions"]]
    else:
        words = _WORD.findall(README.read_text(encoding="utf-8"))
        real = [" ".join(draw.choices(words, k=draw.randint(6, 16))) for _ in range(2500)]
    made = []
    for _ in range(number):
        kind = draw.random()
        if kind < 0.1:
            text = draw.choice(_CHINESE) + draw.choice(("", "。", "，阳光明媚")) + str(draw.randint(1, 99))
        elif kind < 0.2:
            text = f"{draw.choice(_ACCENTED)} {draw.randint(1, 999)}"
        else:  # of two captions, so that no two samples are alike
            text = f"{draw.choice(real)} {draw.choice(real)}" if draw.random() < 0.3 else draw.choice(real)
        made.append(draw.choice(_NOISE)(text) if draw.random() < 0.05 else text)
    return made


def stages(with_language: bool, everything: bool = False) -> list[Any]:
    """Stages that do what the libraries of the bare loop do; or all text stages of a usual pipeline, in their order."""
    masks: Any = {"emails": "<email>", "links": "<link>", "phones": "<phone>", "handles": "<handle>"}
    language = [Language()] if with_language else []
    own = [CaptionRules(action="flag"), TextHash()] if everything else []
    tokenise = Tokenise.parse({"model": f"local-dir:{TOKENIZER}"}, "bench")
    return [CleanText(mask=masks if everything else {}), *language, TextStats(), *own, tokenise]


def through_stages(made: Sequence[Any], texts: Sequence[str]) -> None:
    """The captions through the stages, in batches as the runner gives them."""
    samples = _samples(texts)
    for start in range(0, len(samples), 16):
        batch = samples[start : start + 16]
        for stage in made:
            batch = stage.process([sample for sample in batch if sample.is_ok])
    assert sum("text_chars" in sample.columns for sample in samples) > 0.99 * len(samples)


def bare(texts: Sequence[str], with_language: bool) -> None:
    """What one would write: each library called once for each caption."""
    import ftfy

    from mmdata.text.language import _identifier
    from mmdata.text.words import segmenter

    identify, cut = _identifier(()).classify, segmenter().lcut
    encode = tokenizer_file.load(TOKENIZER).encode
    kept = []
    for text in texts:
        text = unicodedata.normalize("NFC", html.unescape(ftfy.fix_text(text)))
        text = " ".join(re.sub(r"<[^>]*>", " ", text).split())
        row: dict[str, Any] = {"caption": text}
        if with_language:
            row["language"], row["confidence"] = identify(text)
        words = cut(text) if re.search("[\u4e00-\u9fff]", text) else _WORD.findall(text)
        row["words"] = len(words)
        row["tokens"] = len(encode(text))
        kept.append(row)


def measure(texts: Sequence[str], with_language: bool, rounds: int = ROUNDS) -> tuple[float, float, float]:
    """Captions/s of the stages and of the bare loop, and the ratio of each pair; medians."""
    made = stages(with_language)
    for stage in made:
        stage.setup()
    works: tuple[Callable[[], None], ...] = (
        lambda: through_stages(made, texts),
        lambda: bare(texts, with_language),
    )
    through_stages(made, texts[:500])
    bare(texts[:500], with_language)
    pairs = []
    for number in range(rounds):
        # The order changes from round to round, so that a machine that warms up or slows down favours neither.
        spent = {work: _seconds(work) for work in (works if number % 2 else works[::-1])}
        pairs.append((len(texts) / spent[works[0]], len(texts) / spent[works[1]]))
    ours, theirs = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
    return ours, theirs, statistics.median(pair[0] / pair[1] for pair in pairs)


def all_stages(texts: Sequence[str], with_language: bool) -> float:
    """Captions/s of all six stages in this process."""
    made = stages(with_language, everything=True)
    for stage in made:
        stage.setup()
    through_stages(made, texts[:500])
    return len(texts) / statistics.median(_seconds(lambda: through_stages(made, texts)) for _ in range(ROUNDS))


def in_child(texts: Sequence[str], with_language: bool) -> float:
    """Captions/s of all six stages through the runner's child process, by the processor time of both processes."""
    options = [(stage.name, values_of(stage, *ROLES)) for stage in stages(with_language, everything=True)]
    samples = _samples(texts)
    batches = [samples[start : start + 16] for start in range(0, len(samples), 16)]
    with Sandbox(options, timeout_s=20, memory_mb=1024) as sandbox:
        warm = list(itertools.chain.from_iterable(sandbox.process(batch) for batch in batches[:40]))
        (child,) = psutil.Process().children()
        both = (psutil.Process(), child)
        start_s = sum(sum(each.cpu_times()[:2]) for each in both)
        done = list(itertools.chain.from_iterable(sandbox.process(batch) for batch in batches[40:]))
        spent_s = sum(sum(each.cpu_times()[:2]) for each in both) - start_s
        assert sandbox.restarts == 0
    assert len(warm) + len(done) == len(texts)
    return len(done) / spent_s


def _samples(texts: Sequence[str]) -> list[Sample]:
    return [Sample(f"a-{row:012d}", {}, {"modality": "image_text", "caption": text}) for row, text in enumerate(texts)]


def _seconds(work: Callable[[], None]) -> float:
    """Of this process's own time, since other work on the machine is no part of it."""
    start = time.process_time()
    work()
    return time.process_time() - start


def rows(folder: Path) -> list[Row]:
    """The rows of the README's table."""
    texts = captions(CAPTIONS)
    made = []
    for with_language in (False, True):
        how = "with language" if with_language else "without language"
        ours, theirs, ratio = measure(texts, with_language)
        ours_words, theirs_words = f"{ours:,.0f} captions/s", f"bare loop {theirs:,.0f} captions/s"
        everything, child = all_stages(texts, with_language), in_child(texts, with_language)
        made += [
            Row(f"clean, words, tokens, {how}, one core", ours_words, theirs_words, ratio, PROMISED),
            Row(f"all six text stages, {how}, one core", f"{everything:,.0f} captions/s", "", None),
            Row(f"the same through the child process, {how}", f"{child:,.0f} captions/s", "", None),
        ]
    return made
