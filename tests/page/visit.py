"""A visit to a unit's page: what it shows, and what it does beside that."""

import json
import pathlib

SAMPLES = pathlib.Path(__file__).parent / "samples"
NAMES = ["new", "young", "idle", "busy"]

# Beside the console's errors: of some violations the console says nothing.
VIOLATIONS = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) => violations.push(event.violatedDirective));
"""

# What the elements say, by the name of the value that they show; lists are lists of rows.
WORDS = """() => {
  const words = (root, isRow) => {
    const found = {};
    const own = (element) => {
      const list = element.parentElement.closest("[data-each]");
      return isRow ? list === root.parentElement : list === null;
    };
    for (const element of root.querySelectorAll("[data-text], [data-set], [data-if], [data-each]")) {
      if (!own(element)) continue;
      const { text, set, if: shown, each } = element.dataset;
      if (text) found[text] = element.textContent;
      if (set) found[set.split(":")[1]] = element.getAttribute(set.split(":")[0]);
      if (shown) found[shown] = !element.hidden;
      if (each) found[each] = [...element.children].map((row) => words(row, true));
    }
    return found;
  };
  return words(document.documentElement, false);
}"""


def sample(name):
    """A status as JSON."""
    return (SAMPLES / f"{name}.json").read_text()


def words_of(name):
    """A sample in words, as the server has them."""
    return json.loads((SAMPLES / f"{name}.view.json").read_text())


class Visit:
    """A page in a browser of its own, without a past. `answer`, if given, is what the page hears from the server."""

    def __init__(self, browser, unit, limit_ms, answer=None, faults_expected=False, **options):
        self._context = browser.new_context(**options)
        self._context.set_default_timeout(limit_ms)
        self._has_script = options.get("java_script_enabled", True)
        self._origin = f"http://{unit.http}"
        self._faults_expected = faults_expected
        self._faults = []
        self.requests = []
        self.page = self._context.new_page()
        self.page.add_init_script(VIOLATIONS)
        self.page.on("console", lambda message: self._faults.append(message.text))
        self.page.on("pageerror", lambda error: self._faults.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        if answer is not None:
            self.answer(lambda route: route.fulfill(body=answer, content_type="application/json"))

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self._check()
        finally:
            self._context.close()

    def _check(self):
        others = [url for url in self.requests if not url.startswith((self._origin + "/", "data:"))]
        assert not others, others
        assert self._faults_expected or not self._faults, self._faults
        assert not self._context.cookies()
        if self._has_script:
            kept = self.page.evaluate("[localStorage.length, sessionStorage.length, violations.length]")
            assert kept == [0, 0, 0]

    def open(self):
        """Loads the page, and gives the server's answer."""
        answer = self.page.goto(self._origin + "/")
        if self._has_script:
            self.page.wait_for_selector("[data-state=live]")
        return answer

    def answer(self, with_what):
        """Takes the server's place for what the script asks: `with_what(route)`."""
        self.page.route("**/api/status", with_what)

    def words(self):
        """What the page says, by value."""
        return self.page.evaluate(WORDS)

    def shown(self, name):
        """The elements that show a value outside of lists."""
        return self.page.locator(f"[data-text='{name}']")

    def row(self, name, value):
        """The row in which a value is this text, of a list."""
        pattern = self.page.locator(f"[data-text='{name}']").get_by_text(value, exact=True)
        return self.page.locator("[data-each] > *").filter(has=pattern)
