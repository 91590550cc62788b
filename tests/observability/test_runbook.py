"""The runbook: a part for each alert, which the alert links to, and commands that there are."""

import re
import shlex
import subprocess

import yaml

import dashboard
from local import ROOT, find_binary
from monitor import OBSERVABILITY

RUNBOOK = ROOT / "docs/runbook.md"
TEXT = RUNBOOK.read_text()

COMMAND = re.compile(r"^    (tokencached-tool .*)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
ITALICS = re.compile(r"(?<!\*)\*([^*]+)\*(?!\*)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def alerts():
    """The rules that are alerts."""
    groups = yaml.safe_load((OBSERVABILITY / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def anchors(markdown):
    """What a link to a heading of this file ends in."""
    headings = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(markdown))
    return {heading.replace(" ", "-") for heading in headings}


def test_each_alert_links_to_its_part():
    for alert in alerts():
        assert alert["annotations"]["runbook_url"] == f"docs/runbook.md#{alert['alert'].lower()}"
        _, found, rest = TEXT.partition(f"\n## {alert['alert']}\n")
        assert found, alert["alert"]
        part = rest.partition("\n## ")[0]
        for said in ["**Means**", "**Look at**", "**Do**"]:
            assert part.count(said) == 1, f"{alert['alert']}: {said}"


def test_each_part_is_of_an_alert():
    parts = set(re.findall(r"^## (Tokencached\w+)$", TEXT, re.MULTILINE))
    assert parts == {alert["alert"] for alert in alerts()}


def test_links_lead_somewhere():
    links = LINK.findall(TEXT)
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        file = (RUNBOOK.parent / path) if path else RUNBOOK
        assert file.exists(), link
        assert not anchor or anchor in anchors(file.read_text()), link


def test_panels_that_it_names_are_in_the_dashboard():
    titles = {panel["title"] for panel in dashboard.panels()}
    named = {" ".join(words.split()) for words in ITALICS.findall(TEXT)} - {"italics"}
    assert named
    assert named - titles == set()


def test_commands_are_ones_of_the_tool():
    tool = find_binary().with_name("tokencached-tool")
    commands = COMMAND.findall(TEXT)
    assert commands
    for command in commands:
        _, subcommand, *arguments = shlex.split(command)
        done = subprocess.run([tool, subcommand, "--help"], capture_output=True, text=True, check=True)
        for option in (argument for argument in arguments if argument.startswith("--")):
            assert re.search(rf"{option}[ =\n]", done.stdout), command
