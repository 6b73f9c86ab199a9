"""The report in a real browser: no console message, no horizontal scrolling, pictures shown, in both colour schemes."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from mmdata.emit.report import write_report
from tests.builders import write_run
from tests.emit.test_report import files as files_of
from tests.emit.test_report import nasty_run, report_of, select

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
const frames = [360, 1400].map(width => {
  const frame = document.createElement("iframe");
  frame.width = width; frame.height = 900; frame.src = "report.html";
  document.body.append(frame);
  return new Promise(done => frame.onload = () => setTimeout(() => done([width, frame.contentDocument]), 300));
});
Promise.all(frames).then(all => {
  document.getElementById("found").textContent = JSON.stringify(all.map(([width, page]) => ({
    width, scroll: page.documentElement.scrollWidth, images: page.images.length,
    broken: [...page.images].filter(image => !image.naturalWidth).length,
    panel: getComputedStyle(page.querySelector(".panel")).borderTopWidth,
    wide: [...page.querySelectorAll("main *")].filter(
      node => !node.closest(".scroll, svg, .skip") && node.getBoundingClientRect().right > width + 1).length,
  })));
});
</script>"""

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium here; install it to look at the page in a browser"
)


@pytest.mark.parametrize("kind", ["plain", "nasty"])
def test_the_page_fits_a_phone_and_a_desktop_without_complaints(tmp_path: Path, kind: str) -> None:
    run, shards = (nasty_run(tmp_path), 1) if kind == "nasty" else (write_run(tmp_path / "run"), 3)
    for shard in range(shards):
        select(run, shard)
    write_report(report_of(files_of(run, shards)), str(tmp_path / "report.html"))
    (tmp_path / "owner.html").write_text(OWNER, encoding="utf-8")
    command = [
        str(CHROMIUM),
        *FLAGS,
        f"--user-data-dir={tmp_path / 'profile'}",
        "--allow-file-access-from-files",
        "--virtual-time-budget=8000",
        "--dump-dom",
        (tmp_path / "owner.html").as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    found = json.loads(done.stdout.partition('<pre id="found">')[2].partition("</pre>")[0])
    assert [page["width"] for page in found] == [360, 1400]
    for page in found:
        assert page["scroll"] <= page["width"], page
        assert page["wide"] == 0, page
        assert page["images"] > 0
        assert page["broken"] == 0, page
        assert page["panel"] == "1px", "the style sheet was refused"
    assert "CONSOLE" not in done.stderr, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
