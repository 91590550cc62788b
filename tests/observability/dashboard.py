"""The Grafana dashboard, as far as the tests read it."""

import json
import re

from monitor import OBSERVABILITY

DASHBOARD = json.loads((OBSERVABILITY / "dashboard.json").read_text())

# As Grafana fills them in when all units and services are chosen.
VARIABLES = {"$job": "tokencached", "$instance": ".*", "$service": ".*", "$__rate_interval": "5m"}

LEGEND = re.compile(r"{{(\w+)}}")


def panels():
    """Those that show something."""
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def queries(panel):
    """The queries of a panel as Prometheus is asked them, each with the labels that its legend shows."""
    return {filled_in(target["expr"]): LEGEND.findall(target["legendFormat"]) for target in panel["targets"]}


def all_queries():
    """Those of the panels, of the variables and of the marks on the time line."""
    of_panels = [query for panel in panels() for query in queries(panel)]
    of_variables = [variable["query"]["query"] for variable in DASHBOARD["templating"]["list"][1:]]
    return of_panels + of_variables + [filled_in(mark["expr"]) for mark in marks()]


def marks():
    """What is marked on the time line."""
    return DASHBOARD["annotations"]["list"]


def filled_in(query):
    """A query without variables."""
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    return query
