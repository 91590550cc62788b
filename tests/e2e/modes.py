"""The ways in which keystonemiddleware is pointed at the server, one entry each."""

import dataclasses
import secrets
import subprocess
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Mode:
    """One way; options that are not named keep their defaults, as in a charmed deployment.

    `{folder}` in a flag, a variable or an option is the folder of the mode, in which
    `prepare` writes what the server reads.
    """

    name: str
    transport: str = "inet"  # or inet6, unix
    prepare: Callable = lambda folder: None
    server_flags: tuple = ()
    server_environment: dict = dataclasses.field(default_factory=dict)
    options: dict = dataclasses.field(default_factory=dict)  # of [keystone_authtoken]
    # Processes of the API that start with several requests at once lose their SASL settings, by a
    # race in keystonemiddleware's TokenCache.initialize; so each gets one request alone first.
    one_request_first: bool = False
    left_out: str = ""  # why, where tokencached cannot do it yet

    def __repr__(self):
        return self.name


def security(strategy):
    """The options of a security strategy."""
    return {
        "memcache_security_strategy": strategy,
        "memcache_secret_key": secrets.token_hex(16),
    }


SASL_PASSWORD = secrets.token_hex(16)


def write_password(folder):
    """The file of users and passwords that memcached's `-S` reads."""
    (folder / "passwords").write_text(f"api:{SASL_PASSWORD}\n")


def make_certificate(folder):
    """A certificate for the address, signed by itself, and its key."""
    line = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=cache"
    line += " -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out certificate.pem"
    subprocess.run(line.split(), cwd=folder, check=True, capture_output=True)


NO_SASL = "tokencached has no SASL and no binary protocol yet"
NO_TLS = "tokencached has no TLS and no binary protocol yet"

SASL = {
    "prepare": write_password,
    "server_flags": ("-S",),
    "server_environment": {"MEMCACHED_SASL_PWDB": "{folder}/passwords"},
    "one_request_first": True,
    "left_out": NO_SASL,
}
SASL_OPTIONS = {
    "memcache_sasl_enabled": True,
    "memcache_username": "api",
    "memcache_password": SASL_PASSWORD,
}
TLS = {
    "prepare": make_certificate,
    "server_flags": (
        *("-Z", "-o"),
        "ssl_chain_cert={folder}/certificate.pem,ssl_key={folder}/key.pem",
    ),
    "left_out": NO_TLS,
}
TLS_OPTIONS = {
    "memcache_tls_enabled": True,
    "memcache_tls_cafile": "{folder}/certificate.pem",
}

MODES = (
    Mode("plain"),
    Mode("MAC", options=security("MAC")),
    Mode("ENCRYPT", options=security("ENCRYPT")),
    Mode("simple-pool", options={"memcache_use_advanced_pool": False}),
    Mode("inet6", transport="inet6"),
    Mode("unix", transport="unix"),
    Mode("SASL", **SASL, options=SASL_OPTIONS),
    Mode("TLS", **TLS, options=TLS_OPTIONS),
    Mode("TLS-MAC", **TLS, options=TLS_OPTIONS | security("MAC")),
)
