"""Opens the pages of a built site in a headless browser, at phone and desk width, light and dark; lists what is amiss.

That is: pages wider than the window; figures without a caption, images without an alternative text; figures whose
letters are too small on a phone; formulas that MathJax rejects; files that do not load; links that lead nowhere inside
the site. Needs playwright, and a Chromium: that of `playwright install chromium`, or one named with --browser.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from html import unescape
from itertools import chain
from pathlib import Path
from urllib.parse import unquote, urlsplit

SIZES = {"phone": (390, 844, 2), "desk": (1440, 900, 1)}  # width, height, device pixels for each pixel
SMALLEST = 7  # pixels of the phone, letters in a figure
READY = "() => document.fonts.ready.then(() => window.MathJax?.startup?.promise).then(() => true)"
FAULTS = """() => {
  const all = query => [...document.querySelectorAll(query)], root = document.documentElement;
  const name = e => [e.tagName.toLowerCase(), ...e.classList].join('.') + (e.id && '#' + e.id);
  const scrolls = e => e && (/auto|scroll/.test(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
  const out = e => e.getBoundingClientRect().right > innerWidth + 1 && !scrolls(e.parentElement);
  const wide = all('article *').filter(out);
  return [
    ...(wide.length || root.scrollWidth > innerWidth ? ['too wide: ' + wide.slice(0, 3).map(name).join(', ')] : []),
    ...all('figure').filter(e => !e.querySelector('figcaption')?.innerText.trim()).map(e => 'no caption: ' + name(e)),
    ...all('article img').filter(e => !e.alt.trim() || e.src.endsWith(e.alt)).map(e => 'no alternative text: ' + e.src),
    ...all('article img').filter(e => !e.naturalWidth).map(e => 'not shown: ' + e.src),
    ...all('mjx-merror').map(e => 'formula: ' + e.title),
  ];
}"""
PICTURES = "() => [...document.querySelectorAll('article img')].map(e => [e.src, e.getBoundingClientRect().width])"


def broken_links(site: Path, paths: list[Path]) -> Iterator[str]:
    """Addresses inside the site without a file, or without the anchor in it."""
    texts = {path: path.read_text() for path in paths}
    anchors = {path: {"", "top", *re.findall(r'\bid="([^"]+)"', text)} for path, text in texts.items()}
    for path, text in texts.items():
        for address in sorted({unescape(found) for found in re.findall(r'\b(?:href|src)="([^"]+)"', text)}):
            parts = urlsplit(address)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            lost = not target.is_file() or (target in anchors and unquote(parts.fragment) not in anchors[target])
            if lost and not parts.scheme and not parts.netloc:
                yield f"{path.relative_to(site)}: no such target: {address}"


def letters(path: Path, width: float) -> float:
    """Size in pixels of the smallest letters (but for exponents) of matplotlib's SVG, shown ``width`` pixels wide."""
    text = path.read_text()
    whole = re.search(r'viewBox="0 0 ([\d.]+)', text)
    sizes = [100 * float(size) for size in re.findall(r"scale\(([\d.]+) -\1\)", text)]  # of glyphs 100 units high
    return min(sizes, default=float("inf")) * width / float(whole[1] if whole else width)


def faults(site: Path, paths: list[Path], browser: str | None, screenshots: Path | None) -> Iterator[str]:
    """Open each page at each size in each theme."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser, args=["--disable-gpu", "--no-sandbox"], timeout=0)
        for size, (width, height, scale) in SIZES.items():
            page = chromium.new_page(viewport={"width": width, "height": height}, device_scale_factor=scale)
            page.set_default_timeout(0)  # machines may be busy
            amiss: list[str] = []
            page.on("pageerror", lambda error, amiss=amiss: amiss.append(f"script: {error}"))
            page.on("requestfailed", lambda request, amiss=amiss: amiss.append(f"not loaded: {request.url}"))
            for path in paths:
                page.goto(path.as_uri())
                page.evaluate(READY)
                for theme in ("light", "dark"):
                    page.emulate_media(color_scheme=theme)
                    amiss += page.evaluate(FAULTS)
                    if screenshots:
                        name = path.relative_to(site).with_suffix("").as_posix().replace("/", "-")
                        page.screenshot(path=screenshots / f"{name}-{size}-{theme}.png", full_page=True)
                for source, shown in page.evaluate(PICTURES):
                    file = Path(unquote(urlsplit(source).path))
                    if file.suffix == ".svg" and (found := letters(file, shown)) < SMALLEST:
                        amiss.append(f"letters of {found:.1f} pixels: {file.name}")
                yield from (f"{path.relative_to(site)}, {size}: {fault}" for fault in dict.fromkeys(amiss))
                amiss.clear()
        chromium.close()


def main() -> int:
    """Parse the command line, print what is amiss, return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", nargs="?", type=Path, default="docs/_build/html", help="default: %(default)s")
    parser.add_argument("--only", default="", metavar="PART", help="open only pages with PART in their path")
    parser.add_argument("--browser", metavar="FILE", help="the Chromium to use")
    parser.add_argument("--screenshots", type=Path, metavar="FOLDER", help="save a picture of each whole page there")
    given = parser.parse_args()
    site = given.site.resolve()
    pages = sorted(site.rglob("*.html"))
    opened = [path for path in pages if given.only in path.relative_to(site).as_posix()]
    if not opened:
        parser.error(f"no such pages in {site}; build the site first")
    count = 0
    for fault in chain(broken_links(site, pages), faults(site, opened, given.browser, given.screenshots)):
        print(fault, flush=True)
        count += 1
    print(f"pages opened: {len(opened)}, faults: {count}")
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(main())
