"""The page says when it has no news, and picks up when there are some; nobody else can keep them from it."""

import contextlib
import json
import socket

from playwright.sync_api import expect

from visit import sample

# More connections than the HTTP port keeps, each asking for more than fits into the buffers on the way.
SLOW = 40
PAGES = 200

HIDE = """(isHidden) => {
  Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_a_server_that_ends_is_told_in_one_line_until_it_is_back(start_unit, visit):
    with start_unit() as unit:
        visit = visit(unit, faults_expected=True)
        visit.open()
        gone = visit.page.locator("#gone")
        expect(gone).to_be_hidden()
        unit.close()
        expect(gone).to_be_visible()
        last = visit.shown("time").first.inner_text()
        expect(gone).to_have_text(f"The server does not answer. These are its figures of {last}.")
        unit.start()
        expect(gone).to_be_hidden()
        with unit.connect() as client:
            client.get("tokens/" + "0" * 64)
        expect(visit.row("cause", "never seen").locator("[data-text='count']")).to_have_text("1")


def test_a_server_that_takes_too_long_is_as_good_as_gone(unit, visit):
    visit = visit(unit)
    visit.open()
    held_back = []
    visit.answer(lambda route: held_back.append(route))
    expect(visit.page.locator("#gone")).to_be_visible()
    visit.page.unroute("**/api/status")
    expect(visit.page.locator("#gone")).to_be_hidden()


def test_figures_of_another_format_are_not_shown(unit, visit):
    visit = visit(unit)
    visit.open()
    other = json.dumps(json.loads(sample("busy")) | {"format": 2})
    visit.answer(lambda route: route.fulfill(body=other, content_type="application/json"))
    expect(visit.page.locator("#gone")).to_be_visible()
    expect(visit.shown("minute.of")).to_have_text("no requests yet")


def test_nobody_is_asked_while_nobody_looks(unit, visit):
    visit = visit(unit)
    visit.page.clock.install()
    visit.open()
    asked = f"http://{unit.http}/api/status"
    with visit.page.expect_response(asked):
        visit.page.clock.run_for(1_000)
    visit.page.evaluate(HIDE, True)
    before = visit.requests.count(asked)
    visit.page.clock.run_for(60_000)
    assert visit.requests.count(asked) == before
    with visit.page.expect_response(asked):
        visit.page.evaluate(HIDE, False)


def test_browsers_that_do_not_read_are_in_nobodys_way(unit, visit):
    visit = visit(unit)
    with contextlib.ExitStack() as stack:
        for _ in range(SLOW):
            peer = stack.enter_context(socket.create_connection(("127.0.0.1", unit.http_port), timeout=10))
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            with contextlib.suppress(OSError):
                peer.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * PAGES)
        visit.open()
        first = visit.shown("time").first.inner_text()
        expect(visit.shown("time").first).not_to_have_text(first)


def test_what_the_page_does_not_bring_along_is_not_run(unit, visit):
    visit = visit(unit, faults_expected=True)
    policy = visit.open().headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    violated = visit.page.evaluate("""() => {
      const script = document.createElement("script");
      script.textContent = "window.intruder = true";
      document.body.append(script);
      return new Promise((resolve) => setTimeout(() => resolve([window.intruder ?? false, violations.splice(0)])));
    }""")
    assert violated == [False, ["script-src-elem"]]
