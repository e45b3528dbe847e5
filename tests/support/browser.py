"""Pages in a real browser, without a window; Debian has it as chromium and chromium-driver."""

import base64
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def missing() -> str:
    """What this computer lacks to open pages, empty if nothing."""
    lacks = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"not installed: {', '.join(lacks)} (Debian: chromium, chromium-driver)" if lacks else ""


class Browser:
    """One tab. ``width`` is in CSS pixels."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, page: Path, width: int = 1400, *, dark: bool = False) -> None:
        """Show a page at a width, in the colours that the reader prefers."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"media": "", "features": [scheme]}
        )
        self.driver.get(page.resolve().as_uri())

    def run(self, script: str, *arguments: object) -> Any:
        """Run JavaScript that returns a value."""
        return self.driver.execute_script(script, *arguments)

    def complaints(self) -> list[str]:
        """What the console has said since it was last asked."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def show_as_printed(self, width: int = 718) -> None:
        """Lay the page out as on paper; the default is what margins leave of A4."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})

    def pdf(self) -> bytes:
        """Print the page."""
        return base64.b64decode(self.driver.execute_cdp_cmd("Page.printToPDF", {})["data"])

    def point_at(self, figure: str, x: float, y: float) -> str:
        """Hold the pointer over a figure, at shares of its width and height; return what shows."""
        box = self.run(
            "const f = document.getElementById(arguments[0]).querySelector('svg');"
            "f.scrollIntoView({block: 'center'});"
            "const b = f.getBoundingClientRect(); return [b.left, b.top, b.width, b.height];",
            figure,
        )
        left, top, width, height = box
        place = {"type": "mouseMoved", "x": left + x * width, "y": top + y * height}
        self.driver.execute_cdp_cmd("Input.dispatchMouseEvent", place)
        tip = "const tip = document.getElementById('tip'); return tip.hidden ? '' : tip.innerText"
        shown: str = self.run(tip)
        return shown

    def save_to(self, folder: Path) -> None:
        """Let the page save files to a folder."""
        where = {"behavior": "allow", "downloadPath": str(folder)}
        self.driver.execute_cdp_cmd("Browser.setDownloadBehavior", where)


@contextmanager
def browser() -> Iterator[Browser]:
    """Open a browser with a profile of its own."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = Options()
        options.binary_location = str(shutil.which("chromium"))
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = Service(shutil.which("chromedriver"))
        driver = webdriver.Chrome(options=options, service=service)
        try:
            yield Browser(driver)
        finally:
            driver.quit()


# Returns the pairs of texts of one figure of which one covers the other.
OVERLAPS = """
const found = [];
for (const figure of document.querySelectorAll('figure')) {
  const texts = [...figure.querySelectorAll('svg text')]
    .map((one) => [one, one.getBoundingClientRect()]);
  const frame = figure.querySelector('svg').getBoundingClientRect();
  for (const [one, box] of texts) {
    if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1) {
      found.push([figure.id, one.textContent, 'outside']);
    }
  }
  texts.sort((a, b) => a[1].left - b[1].left);
  texts.forEach(([one, a], i) => {
    for (let j = i + 1; j < texts.length && texts[j][1].left < a.right - 1; j++) {
      const b = texts[j][1];
      if (a.top < b.bottom - 3 && b.top < a.bottom - 3) {
        found.push([figure.id, one.textContent, texts[j][0].textContent]);
      }
    }
  });
}
return found;
"""

# Returns what is wider than the page and cannot be scrolled.
OVERFLOWS = """
const wide = document.documentElement.clientWidth;
const found = [];
for (const one of document.querySelectorAll('body *')) {
  if (one.closest('.scroll') && !one.matches('.scroll')) continue;
  const box = one.getBoundingClientRect();
  if (box.width && box.right > wide + 1) found.push(one.tagName + ' ' + one.className);
}
if (document.documentElement.scrollWidth > wide) found.push('the page');
return found;
"""
