"""The report in a real browser: it fits, reads well in light and dark, and everything is reached by keyboard."""

from __future__ import annotations

import html
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mmdata.emit.report import write_report
from tests.emit.decided import DECISIONS, decide, samples_of_all
from tests.emit.test_report import files as files_of
from tests.emit.test_report import nasty_run, report_of

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--v=0",
]
# A window cannot be 360 wide, a frame can; the page that owns the frames measures what is in them.
OWNER = """<!doctype html><body><pre id="found"></pre><script>
const numbers = text => (text.match(/[0-9.]+/g) || [0, 0, 0, 0]).map(Number);
const light = ([r, g, b]) => [r, g, b].map(c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
function ground(node, view) {  // the first background behind a node that is not transparent
  for (; node; node = node.parentElement) {
    const found = view.getComputedStyle(node).backgroundColor;
    if (found !== "rgba(0, 0, 0, 0)") return numbers(found);
  }
  return [255, 255, 255];
}
function faint(page, view) {  // texts whose contrast is below 4.5, as WCAG has it
  const shown = [...page.querySelectorAll("body *")].filter(node => node.getClientRects().length
    && [...node.childNodes].some(child => child.nodeType === 3 && child.data.trim()) && node.tagName !== "TITLE");
  return [shown.length, shown.map(node => {
    const style = view.getComputedStyle(node);
    const pair = [light(numbers(node.closest("svg") ? style.fill : style.color)), light(ground(node, view))];
    return [(Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05), node.className.baseVal ?? node.className,
      node.textContent.slice(0, 40)];
  }).filter(([ratio]) => ratio < 4.5)];
}
function keyboard(page, view) {
  const all = [...page.querySelectorAll("a[href], summary, audio[controls], [tabindex]")];
  const shown = all.filter(node => node.getClientRects().length);
  const unmarked = shown.filter(node => {
    node.focus();
    const style = view.getComputedStyle(node);
    return page.activeElement !== node || style.outlineStyle !== "solid" || parseFloat(style.outlineWidth) < 2;
  });
  const scrolls = [...page.querySelectorAll("main *")].filter(node => node.scrollWidth > node.clientWidth + 1
    && ["auto", "scroll"].includes(view.getComputedStyle(node).overflowX) && node.clientWidth);
  return {
    reached: shown.length, jumps: all.filter(node => node.tabIndex > 0).length,
    unmarked: unmarked.map(node => node.outerHTML.slice(0, 80)),
    caught: scrolls.filter(node => node.tabIndex !== 0).map(node => node.outerHTML.slice(0, 80)),
  };
}
function collisions(page) {  // words of one chart that lie on each other
  const found = [];
  for (const chart of page.querySelectorAll("svg.chart")) {
    const boxes = [...chart.querySelectorAll("text")].map(text => [text.getBoundingClientRect(), text.textContent]);
    boxes.forEach(([a, one], i) => boxes.slice(i + 1).forEach(([b, other]) => {
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const tall = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (wide > 1 && tall > 0.4 * Math.min(a.height, b.height)) found.push([one, other]);
    }));
  }
  return found;
}
function cut(page) {  // words of a chart that reach beyond it
  return [...page.querySelectorAll("svg text")].filter(text => {
    const [own, chart] = [text.getBoundingClientRect(), text.ownerSVGElement.getBoundingClientRect()];
    return own.width && chart.width && (own.left < chart.left - 1 || own.right > chart.right + 1);
  }).map(text => text.textContent);
}
const frames = [360, 1400].map(width => {
  const frame = document.createElement("iframe");
  frame.width = width; frame.height = 900; frame.src = "report.html";
  document.body.append(frame);
  return new Promise(done => frame.onload = () => setTimeout(() => done([width, frame]), 300));
});
Promise.all(frames).then(all => {
  document.getElementById("found").textContent = JSON.stringify(all.map(([width, frame]) => {
    const page = frame.contentDocument, view = frame.contentWindow;
    page.querySelectorAll("details").forEach(node => node.open = true);
    return {
      width, scroll: page.documentElement.scrollWidth, images: page.images.length,
      broken: [...page.images].filter(image => !image.naturalWidth).length,
      panel: view.getComputedStyle(page.querySelector(".panel")).borderTopWidth,
      ground: light(numbers(view.getComputedStyle(page.body).backgroundColor)),
      wide: [...page.querySelectorAll("main *")].filter(node => !node.closest(".scroll, .strip .frame, svg, .skip")
        && node.getBoundingClientRect().right > width + 1).length,
      faint: faint(page, view), collisions: collisions(page), cut: cut(page), ...keyboard(page, view),
    };
  }));
});
</script>"""

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium here; install it to look at the page in a browser"
)


def write_page(folder: Path, kind: str) -> None:
    if kind == "nasty":
        report = report_of(files_of(nasty_run(folder), 1))
    else:
        report = decide(folder, DECISIONS, samples_of_all()).report()
    write_report(report, str(folder / "report.html"))


def looked_at(folder: Path, scheme: str) -> tuple[list[dict[str, Any]], str]:
    """What is measured in the frames, and what the browser complains of."""
    (folder / "owner.html").write_text(OWNER, encoding="utf-8")
    command = [
        str(CHROMIUM),
        *FLAGS,
        f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}",
        f"--user-data-dir={folder / 'profile'}",
        "--allow-file-access-from-files",
        "--virtual-time-budget=8000",
        "--dump-dom",
        (folder / "owner.html").as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    found = json.loads(html.unescape(done.stdout.partition('<pre id="found">')[2].partition("</pre>")[0]))
    return found, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


@pytest.mark.parametrize(("kind", "scheme"), [("decided", "light"), ("decided", "dark"), ("nasty", "dark")])
def test_the_page_fits_and_reads_on_a_phone_and_a_desktop(tmp_path: Path, kind: str, scheme: str) -> None:
    write_page(tmp_path, kind)
    found, complaints = looked_at(tmp_path, scheme)
    assert [page["width"] for page in found] == [360, 1400]
    for page in found:
        assert page["scroll"] <= page["width"], page
        assert page["wide"] == 0, page
        assert page["images"] > 0
        assert page["broken"] == 0, page
        assert page["panel"] == "1px", "the style sheet was refused"
        assert (page["ground"] < 0.1) == (scheme == "dark")
        texts, faint = page["faint"]
        assert texts > 100
        assert not faint
        assert not page["collisions"]
        assert not page["cut"]
        assert page["reached"] > 20
        assert page["jumps"] == 0
        assert not page["unmarked"]
        assert not page["caught"]
    assert not complaints
