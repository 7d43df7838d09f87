"""Pages in a browser: no complaint of its console, nothing wider than a phone or a desk, and what moves moves."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fake_gan
import numpy as np
import pytest
from PIL import Image

from cxrjax import defaults
from cxrjax.data import survey
from cxrjax.infer.predict import Operating, Prediction
from cxrjax.infer.progress import Progress
from cxrjax.report import films, predictions, write
from cxrjax.report.treatment import own

LONG = "a_name_without_any_break_1.2.840.113619.2.55.3.604688119.868.1594.png"
LAMBDAS = (100, 200, 300)
MEBIBYTES = 10
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    selenium = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install -e '.[browser]'")
    from selenium.webdriver.chrome.service import Service

    chromium, driver = next(filter(None, map(shutil.which, CHROMIUM)), None), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs chromium and its driver: apt-get install chromium chromium-driver")
    options = selenium.ChromeOptions()
    options.binary_location = chromium
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = selenium.Chrome(options, Service(driver))
    yield found
    found.quit()


def of(path: str, seed: int) -> tuple[Prediction, Progress]:
    """A film as the two commands for one's own films answer it."""
    rng = np.random.default_rng(seed)
    small, large = rng.random((16, 16), np.float32), rng.random((120, 90), np.float32)
    p = (seed + 1) / 5
    said = Prediction(Path(path), "", np.array([1 - p, p]), np.array([1 - p, p]), ("Mass",), False,
                      (255 * large).astype(np.uint8), {"Mass": small})  # fmt: skip
    treated = np.stack([small * (1 - i / 4) for i in range(len(LAMBDAS))])
    own_size = np.stack([large * (1 - i / 4) for i in range(len(LAMBDAS))])
    return said, Progress(Path(path), "", small, small, treated, large, own_size, {"independent": np.linspace(0, 1, 4)})


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, study_dir: Path, run_dir: Path) -> dict[str, Path]:
    """A page of each kind, by name."""
    folder = tmp_path_factory.mktemp("pages")
    gan = fake_gan.make(folder / "gan")
    write(gan)
    answers = [of(f"films/{name}", i) for i, name in enumerate(("2.png", LONG, "10.png"))]
    fault = f"films/broken_{LONG}"
    predictor = SimpleNamespace(name="judge", classes=("Normal", "Mass"), operating=Operating(2.0, (), 0.1, "chosen"))
    said = [*(one for one, _ in answers), Prediction(Path(fault), "no film")]
    predict, _ = predictions.write(folder / "predict", predictor, said, "runs/x", f"predict.py --input={LONG}")
    treated = [*(one for _, one in answers), Progress(Path(fault), "no film")]
    progress, _ = own.write(folder / "progress", "time_gated", LAMBDAS, treated, "runs/x", "progress.py", "none")
    rows = ["path,patient,label"]
    for i in range(9):
        name = f"{i}.png" if i else LONG
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (48, 40), np.uint8)).save(folder / name)
        rows.append(f"{name},{i},{'Mass' if i % 3 else 'Normal'}")
    (folder / "films.csv").write_text("\n".join([*rows, f"gone_{LONG},99,Mass"]))
    found = survey.survey(defaults.data("csv", (), 32, table=str(folder / "films.csv")))
    check = films.write(folder / "check", found, "prepare.py --check")
    return {
        "comparison": study_dir / "report.html", "treatment": run_dir / "report.html", "synthesis": gan / "report.html",
        "checklist": run_dir / "checklist.html", "blinded": gan / "blinded.html", "predict": predict,
        "progress": progress, "check": check,
    }  # fmt: skip


KINDS = ("comparison", "treatment", "synthesis", "checklist", "blinded", "predict", "progress", "check")


def opened(browser: Any, page: Path, width: int, theme: str = "light") -> None:
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    )
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get("about:blank")  # an address that differs in its # alone would not be loaded again
    browser.get(page.as_uri())
    browser.execute_script("document.querySelectorAll('details').forEach((one) => (one.open = true))")


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_opens_without_complaint_on_phone_and_desk(browser: Any, pages: dict[str, Path], kind: str) -> None:
    assert pages[kind].stat().st_size < MEBIBYTES * 2**20
    browser.get_log("browser")
    for width in (360, 1280):
        opened(browser, pages[kind], width)
        wide, room, seen = browser.execute_script(
            "const root = document.documentElement; return [root.scrollWidth, root.clientWidth, innerWidth];"
        )
        assert wide <= room, width
        assert seen == width  # a phone zooms out where a page is wider than it
        silent = "return [...document.images].filter((one) => !one.alt.trim() || !one.naturalWidth).length"
        assert browser.execute_script(silent) == 0
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("kind", KINDS)
def test_words_stand_out_from_the_ground_light_and_dark(browser: Any, pages: dict[str, Path], kind: str) -> None:
    """Contrast of at least 4.5 (WCAG 2.1, AA) of every text of a page's own, against the ground that it lies on."""
    for theme in ("light", "dark"):
        opened(browser, pages[kind], 1280, theme)
        faint = browser.execute_script(CONTRAST)
        assert faint == [], theme


CONTRAST = """
const parse = (color) => (color.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
const light = (rgb) => [0.2126, 0.7152, 0.0722].reduce((sum, share, i) => sum + share * linear(rgb[i] / 255), 0);
function ground(element) {
  for (let e = element; e; e = e.parentElement) {
    const found = parse(getComputedStyle(e).backgroundColor);
    if (found.length === 3 || found[3] > 0.9) return found;
  }
  return [255, 255, 255];
}
const faint = new Set();
for (const e of document.body.querySelectorAll("*")) {
  const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  if (!own || !e.getClientRects().length || e.closest("script, style, button:disabled, option, .unseen")) continue;
  const [a, b] = [light(parse(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
  const contrast = (a + 0.05) / (b + 0.05);
  if (contrast < 4.5) faint.add(e.tagName + "." + e.className + " " + contrast.toFixed(2));
}
return [...faint];
"""


@pytest.mark.parametrize("kind", ["treatment", "progress"])
def test_the_slider_moves_by_mouse_and_keys(browser: Any, pages: dict[str, Path], kind: str) -> None:
    from selenium.webdriver import ActionChains, Keys
    from selenium.webdriver.common.by import By

    opened(browser, pages[kind], 1280)
    slider, film = browser.find_element(By.ID, "lambda"), browser.find_element(By.CSS_SELECTOR, ".sprite")

    def state() -> tuple[str, str, str]:
        """λ in words, where its film begins, and what is said beneath it."""
        shown = "return getComputedStyle(document.querySelector('.sprite')).backgroundPositionX"
        said = browser.find_element(By.CSS_SELECTOR, ".p span").text
        return browser.find_element(By.ID, "lam").text, browser.execute_script(shown), said

    at = [state()]
    ActionChains(browser).send_keys(Keys.ARROW_RIGHT).perform()
    at.append(state())
    ActionChains(browser).send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT).perform()
    at.append(state())
    assert [int(words.split()[0]) for words, _, _ in at] == [200 if kind == "progress" else 300, at_right(kind), 100]
    assert len({begin for _, begin, _ in at}) == len({said for _, _, said in at}) == 3
    left = -slider.size["width"] // 2
    ActionChains(browser).move_to_element_with_offset(slider, left + 4, 0).click().perform()
    assert state()[0].startswith("0")
    ActionChains(browser).move_to_element(slider).click_and_hold().move_by_offset(-left - 4, 0).release().perform()
    assert state()[0] == str(at_right(kind))
    ActionChains(browser).drag_and_drop_by_offset(film, -16, 0).perform()  # a film is dragged too
    assert state()[0] != str(at_right(kind))


def at_right(kind: str) -> int:
    """The greatest λ of the page."""
    return LAMBDAS[-1] if kind == "progress" else 500


def column(browser: Any, table: str, place: int) -> list[str]:
    cells = f"return [...document.querySelector('{table}').tBodies[0].rows].map((row) => row.cells[{place}].innerText)"
    return [text.split("\n")[0].split(" [")[0] for text in browser.execute_script(cells)]


def test_tables_sort_the_best_first_and_back(browser: Any, pages: dict[str, Path]) -> None:
    from selenium.webdriver import Keys
    from selenium.webdriver.common.by import By

    opened(browser, pages["comparison"], 1280)
    table = "table.paper"
    given, (accuracy, auroc, *_) = column(browser, table, 0), browser.find_elements(By.CSS_SELECTOR, f"{table} .sort")
    assert given == ["cnn5", "fcn", "logreg32"]
    head = accuracy.find_element(By.XPATH, "..")
    accuracy.click()
    assert column(browser, table, 1) == ["0.900", "0.800", "0.750"]
    assert head.get_attribute("aria-sort") == "descending"
    accuracy.send_keys(Keys.ENTER)
    assert column(browser, table, 1) == ["0.750", "0.800", "0.900"]
    assert head.get_attribute("aria-sort") == "ascending"
    auroc.click()
    auroc.click()
    assert column(browser, table, 2) == ["0.970", "—", "—"]  # what is empty stays last
    assert head.get_attribute("aria-sort") is None
    auroc.click()
    assert column(browser, table, 0) == given
    opened(browser, pages["predict"], 1280)
    names, *_, probability = browser.find_elements(By.CSS_SELECTOR, "table.said .sort")
    names.click()
    assert [name.split("/")[-1] for name in column(browser, "table.said", 0)] == ["2.png", "10.png", LONG]
    probability.click()
    assert [name.split("/")[-1] for name in column(browser, "table.said", 0)] == ["10.png", LONG, "2.png"]
