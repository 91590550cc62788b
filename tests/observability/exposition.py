"""Prometheus' text format, as far as the tests read it."""

import re

SAMPLE = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(?:{(?P<labels>.*)})? (?P<value>\S+)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)",?')

# What names of metrics begin with here; what else stands in a query are functions, labels and words.
OURS = re.compile(r"\b(?:(?:mem|token)cached|process)_\w+")


class Scrape:
    """The samples of one answer: `scrape[name]` are the values by their labels, as a frozenset of pairs."""

    def __init__(self, text):
        self.text = text
        self._samples = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                name, labels, value = SAMPLE.fullmatch(line).groups()
                series = self._samples.setdefault(name, {})
                series[frozenset(LABEL.findall(labels or ""))] = float(value)

    def __getitem__(self, name):
        return self._samples[name]

    def names(self):
        """The names of all series; of a histogram those of its parts."""
        return set(self._samples)

    def value(self, name, **labels):
        """The value of the series with exactly these labels."""
        return self[name][frozenset(labels.items())]


def names_in(query):
    """The metrics of a server that a query names, not what recording rules make of them."""
    return {name for name in OURS.findall(query) if f":{name}" not in query}
