"""The ways in which keystonemiddleware is pointed at the server, one entry each."""

import dataclasses
import secrets
from collections.abc import Callable

from secured import make_certificate, sasl_environment, sasl_flags, tls_flags, write_passwords


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
    # Processes of the API that start with several requests at once lose their SASL and TLS settings, by
    # a race in keystonemiddleware's TokenCache.initialize; so each gets one request alone first.
    one_request_first: bool = False

    def __repr__(self):
        return self.name


def security(strategy):
    """The options of a security strategy."""
    return {
        "memcache_security_strategy": strategy,
        "memcache_secret_key": secrets.token_hex(16),
    }


SASL_PASSWORD = secrets.token_hex(16)

SASL = {
    "prepare": lambda folder: write_passwords(folder, "api", SASL_PASSWORD),
    "server_flags": sasl_flags("{folder}"),
    "server_environment": sasl_environment("{folder}"),
    "one_request_first": True,
}
SASL_OPTIONS = {
    "memcache_sasl_enabled": True,
    "memcache_username": "api",
    "memcache_password": SASL_PASSWORD,
}
TLS = {
    "prepare": make_certificate,
    "server_flags": tls_flags("{folder}"),
    "one_request_first": True,
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
