"""A real Keystone with a catalogue of usual size, one user, and an account for the API."""

import os
import pathlib
import secrets
import subprocess
import sys
import time

import requests

import apache

CONFIG = """\
[database]
connection = sqlite:///{directory}/keystone.db
[token]
provider = fernet
[fernet_tokens]
key_repository = {directory}/fernet-keys
[fernet_receipts]
key_repository = {directory}/fernet-keys
[credential]
key_repository = {directory}/credential-keys
[identity]
password_hash_rounds = 4
"""

SCRIPT = """\
import os

os.environ["OS_KEYSTONE_CONFIG_DIR"] = {directory!r}

from keystone.wsgi.api import application
"""

REGION = "RegionOne"
SERVICES = (
    *("compute", "placement", "network", "image", "volumev3", "block-storage", "object-store"),
    *("orchestration", "cloudformation", "dns", "load-balancer", "key-manager"),
    *("shared-file-system", "metric", "alarming", "baremetal", "container-infra", "instance-ha"),
    "identity",
)
INTERFACES = ("public", "internal", "admin")


class Token:
    """A token as issued; its id is a credential and never printed."""

    def __init__(self, id):
        self.id = id

    def __repr__(self):
        return "<token>"


class Keystone:
    """Keystone under Apache, set up anew."""

    def __init__(self, directory, python_home):
        self.admin_password, self.api_password, self._password = (
            secrets.token_hex(16) for _ in range(3)
        )
        (directory / "keystone.conf").write_text(CONFIG.format(directory=directory))
        self._directory = directory
        self._manage("db_sync")
        self._manage("fernet_setup", *self._owner())
        self._manage("bootstrap", OS_BOOTSTRAP_PASSWORD=self.admin_password)
        self.apache = apache.Apache(directory, python_home, SCRIPT.format(directory=str(directory)))
        self.url = self.apache.url
        try:
            self._fill()
        except BaseException:
            self.apache.stop()
            raise

    def _owner(self):
        if not apache.runs_as_root():
            return []
        return ["--keystone-user", apache.USER, "--keystone-group", apache.USER]

    def _manage(self, *arguments, **environment):
        """`keystone-manage`; what it prints is shown if it fails."""
        program = pathlib.Path(sys.prefix) / "bin" / "keystone-manage"
        done = subprocess.run(
            [program, "--config-file", self._directory / "keystone.conf", *arguments],
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"keystone-manage {arguments[0]} failed:\n{done.stdout}")

    def _fill(self):
        """The catalogue, the project, the user and the API's account, as an administrator."""
        admin = requests.Session()
        admin.headers["X-Auth-Token"] = self._authenticate("admin", self.admin_password, "admin").id

        def create(kind, **fields):
            answer = admin.post(f"{self.url}/v3/{kind}s", json={kind: fields})
            answer.raise_for_status()
            return answer.json()[kind]["id"]

        def find(kind, name):
            answer = admin.get(f"{self.url}/v3/{kind}s", params={"name": name})
            answer.raise_for_status()
            return answer.json()[f"{kind}s"][0]["id"]

        create("region", id=REGION)
        for name in SERVICES:
            service = create("service", name=name, type=name)
            for interface in INTERFACES:
                url = f"https://{name}.{interface}.cloud.example:13000/{name}/v1"
                if name == "identity":  # keystonemiddleware follows this one.
                    url = self.url
                place = {"interface": interface, "url": url, "region_id": REGION}
                create("endpoint", service_id=service, **place)
        for user, password, project, role in (
            ("api", self.api_password, "services", "service"),
            ("someone", self._password, "shop", "member"),
        ):
            project = create("project", name=project, domain_id="default")
            user = create("user", name=user, password=password, domain_id="default")
            path = f"projects/{project}/users/{user}/roles/{find('role', role)}"
            admin.put(f"{self.url}/v3/{path}").raise_for_status()

    def _authenticate(self, user, password, project):
        domain = {"id": "default"}
        user = {"name": user, "password": password, "domain": domain}
        body = {
            "auth": {
                "identity": {"methods": ["password"], "password": {"user": user}},
                "scope": {"project": {"name": project, "domain": domain}},
            }
        }
        answer = requests.post(f"{self.url}/v3/auth/tokens", json=body)
        answer.raise_for_status()
        return Token(answer.headers["X-Subject-Token"])

    def issue(self):
        """A fresh token of a user on a project."""
        return self._authenticate("someone", self._password, "shop")

    def validate(self, token):
        """The body of the answer to a validation."""
        headers = {"X-Auth-Token": token.id, "X-Subject-Token": token.id}
        answer = requests.get(f"{self.url}/v3/auth/tokens", headers=headers)
        answer.raise_for_status()
        return answer.content

    def validations(self):
        """How many validations Keystone's access log tells of."""
        time.sleep(0.1)  # Apache writes a line after the answer.
        return self.apache.requests("GET /v3/auth/tokens")

    def stop(self):
        """Ends Apache; gives its exit status."""
        return self.apache.stop()
