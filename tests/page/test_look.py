"""The page can be read: on a phone, at a desk, by day and by night."""

import pytest
from playwright.sync_api import expect

from visit import NAMES, sample

PHONE = {"width": 360, "height": 780}
DESK = {"width": 1280, "height": 900}

# WCAG 2.2, "Contrast (Minimum)".
CONTRAST_MIN = 4.5

# Texts with the contrast to what is behind them, by WCAG's "relative luminance".
CONTRASTS = r"""() => {
  const channels = (colour) => colour.match(/[\d.]+/g).map(Number);
  const luminance = (colour) => {
    const [red, green, blue] = channels(colour).map((channel) => {
      const part = channel / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (channels(colour)[3] !== 0) return colour;
    }
  };
  const contrasts = [];
  for (const element of document.querySelectorAll("body *:not(script, style, template)")) {
    const text = [...element.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    if (text.length === 0) continue;
    const style = getComputedStyle(element);
    const colour = element instanceof SVGElement ? style.fill : style.color;
    const [darker, lighter] = [luminance(colour), luminance(behind(element))].sort((a, b) => a - b);
    contrasts.push([(lighter + 0.05) / (darker + 0.05), element.textContent]);
  }
  return contrasts;
}"""

# Elements that reach beyond the width of the page, or whose words reach beyond their own.
CUT_OFF = """() => [...document.querySelectorAll("body *")].filter((element) => {
  const { left, right } = element.getBoundingClientRect();
  const isBeyond = left < 0 || right > innerWidth + 0.5;
  const isCut = !(element instanceof SVGElement) && element.clientWidth && element.scrollWidth > element.clientWidth + 1;
  return isBeyond || isCut;
}).map((element) => element.outerHTML.slice(0, 200))"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", ["phone", "desk"])
def test_the_page_looks_like_this(device, scheme, unit, visit, kept):
    viewport = {"phone": PHONE, "desk": DESK}[device]
    visit = visit(unit, answer=sample("busy"), viewport=viewport, color_scheme=scheme)
    visit.open()
    visit.page.screenshot(path=kept / f"{device}-{scheme}.png", full_page=True)


@pytest.mark.parametrize("width", [320, 360, 700, 900, 1060, 1280])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_cut_off(name, width, unit, visit):
    visit = visit(unit, answer=sample(name), viewport={"width": width, "height": 780})
    visit.open()
    visit.page.locator("summary").click()
    assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert visit.page.evaluate(CUT_OFF) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_contrast_of_all_text_is_enough(scheme, unit, visit):
    visit = visit(unit, answer=sample("busy"), color_scheme=scheme)
    visit.open()
    contrasts = visit.page.evaluate(CONTRASTS)
    assert len(contrasts) > 100
    assert [text for contrast, text in contrasts if contrast < CONTRAST_MIN] == []


def test_a_name_that_is_no_name_stays_text(unit, visit):
    visit = visit(unit, answer=sample("idle"))
    visit.open()
    expect(visit.page.locator("tbody th").get_by_text('<b onclick="alert(1)">nova & co</b>')).to_be_visible()
    assert visit.page.locator("[onclick]").count() == 0
