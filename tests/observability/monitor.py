"""Debian's Prometheus, with the configuration and the rules that the repository gives a site."""

import json
import pathlib
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

import yaml

from local import ROOT, free_port

OBSERVABILITY = ROOT / "observability"
MIXIN = pathlib.Path(__file__).parent / "mixin.yaml"

START_LIMIT_S = 60
STOP_LIMIT_S = 30


class Prometheus:
    """It asks these units every second; the rest is as in observability/prometheus.yml."""

    def __init__(self, folder, units):
        folder.mkdir()
        self._port = free_port()
        self._log_path = folder / "log"
        for rules in [OBSERVABILITY / "alerts.yaml", MIXIN]:
            shutil.copy(rules, folder)
        configuration = yaml.safe_load((OBSERVABILITY / "prometheus.yml").read_text())
        configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        configuration["rule_files"].append(MIXIN.name)
        (job,) = configuration["scrape_configs"]
        job |= {"scrape_interval": "1s", "static_configs": [{"targets": [unit.http for unit in units]}]}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        with open(self._log_path, "wb") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={folder}/prometheus.yml",
                    f"--storage.tsdb.path={folder}/data",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_LIMIT_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise RuntimeError(f"Prometheus did not start: {self.log()}")
            time.sleep(0.1)

    def _is_ready(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=30):
                return True
        except OSError:
            return False

    def close(self):
        """SIGTERM; kills a process that does not end."""
        self._process.terminate()
        try:
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def log(self):
        """What it has logged."""
        return self._log_path.read_text()

    def query(self, expression):
        """The samples of an instant query, each its labels and its value; an error is Prometheus' own words."""
        answer = self._ask("query", query=expression)
        if answer["resultType"] != "vector":
            return [({}, float(answer["result"][1]))]
        return [(sample["metric"], float(sample["value"][1])) for sample in answer["result"]]

    def rules(self):
        """All rules, with their state and what they last said."""
        return [rule for group in self._ask("rules")["groups"] for rule in group["rules"]]

    def alerts(self):
        """(name, instance, state) of each alert that is pending or firing."""
        alerts = self._ask("alerts")["alerts"]
        return {(a["labels"]["alertname"], a["labels"]["instance"], a["state"]) for a in alerts}

    def _ask(self, what, **arguments):
        url = f"http://127.0.0.1:{self._port}/api/v1/{what}?{urllib.parse.urlencode(arguments)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error)["error"]) from None


def eventually(condition, limit_s=60):
    """Polls, and gives whether the condition came true."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True
