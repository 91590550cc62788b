"""The ways in which keystonemiddleware is pointed at the server, one entry each."""

import dataclasses
import secrets


@dataclasses.dataclass(frozen=True)
class Mode:
    """One way; options that are not named keep their defaults, as in a charmed deployment."""

    name: str
    transport: str = "inet"  # or inet6, unix
    server_flags: tuple = ()
    options: dict = dataclasses.field(default_factory=dict)  # of [keystone_authtoken]
    # Processes of the API that start with several requests at once lose their SASL settings, by a
    # race in keystonemiddleware's TokenCache.initialize; so each gets one request alone first.
    one_request_first: bool = False
    left_out: str = ""  # why, where the server cannot do it yet

    def __repr__(self):
        return self.name


def security(strategy):
    """The options of a security strategy."""
    return {
        "memcache_security_strategy": strategy,
        "memcache_secret_key": secrets.token_hex(16),
    }


NO_SASL = "the server has no SASL and no binary protocol yet"
NO_TLS = "the server has no TLS and no binary protocol yet"

SASL = {
    "memcache_sasl_enabled": True,
    "memcache_username": "api",
    "memcache_password": secrets.token_hex(16),
}
TLS = {"memcache_tls_enabled": True}

MODES = (
    Mode("plain"),
    Mode("MAC", options=security("MAC")),
    Mode("ENCRYPT", options=security("ENCRYPT")),
    Mode("simple-pool", options={"memcache_use_advanced_pool": False}),
    Mode("inet6", transport="inet6"),
    Mode("unix", transport="unix"),
    Mode("SASL", server_flags=("-S",), options=SASL, one_request_first=True, left_out=NO_SASL),
    Mode("TLS", server_flags=("-Z",), options=TLS, left_out=NO_TLS),
    Mode("TLS-MAC", server_flags=("-Z",), options=TLS | security("MAC"), left_out=NO_TLS),
)
