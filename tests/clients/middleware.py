"""keystonemiddleware's `auth_token` as an API service runs it, with a Keystone that only counts.

The middleware is the real one: it reads an oslo.config file, builds its token
cache by its own `_token_cache_factory`, and takes WSGI requests. Options that
are not named here keep their defaults, as in a charmed deployment. The single
stand-in is the identity server, so that nothing but the cache uses the network.
"""

import json
import threading
import uuid

import webob.dec
from keystonemiddleware import auth_token
from oslo_config import cfg

SECRET_KEY = "0123456789abcdef0123456789abcdef"


class Keystone:
    """Stands in for the identity server and counts what it is asked to validate."""

    def __init__(self, tokens):
        self._tokens = {token.id: token for token in tokens}
        self._lock = threading.Lock()
        self.validations = 0

    def verify_token(self, token_id, retry=True, allow_expired=False):
        """The signature of `_identity.IdentityServer.verify_token`."""
        with self._lock:
            self.validations += 1
        return self._tokens[token_id].copy()


class Api:
    """One process of an API: the middleware in front of an application that tells what it got."""

    def __init__(self, directory, address, keystone, **options):
        self._middleware = auth_token.AuthProtocol(
            _show_token, {"oslo_config_config": _read_config(directory, address, options)}
        )
        self._middleware._identity_server = keystone

    def request(self, token_id):
        """Sends one request with X-Auth-Token; gives the token's body as the API saw it."""
        request = webob.Request.blank("/", headers={"X-Auth-Token": token_id})
        response = request.get_response(self._middleware)
        assert response.status_int == 200, response.status
        return json.loads(response.body)

    def token_cache(self):
        """The middleware's own TokenCache or SecureTokenCache, ready for use."""
        cache = self._middleware._token_cache
        cache.initialize({})
        return cache

    def cache_key(self, token_id):
        """The key under which the token is stored."""
        return self._middleware._token_cache._get_cache_key(token_id)[0]


@webob.dec.wsgify
def _show_token(request):
    """The application: answers what the middleware handed on."""
    assert request.headers["X-Identity-Status"] == "Confirmed"
    body = request.environ["keystone.token_info"]
    assert request.headers["X-User-Id"] == body["token"]["user"]["id"]
    return webob.Response(json.dumps(body).encode(), content_type="application/json")


def _read_config(directory, address, options):
    """oslo.config as a service has it: a file with a [keystone_authtoken] section."""
    settings = {
        "www_authenticate_uri": "http://keystone.invalid:5000",
        "memcached_servers": address,
    } | options
    lines = [f"{name} = {value}" for name, value in settings.items()]
    path = directory / f"api-{uuid.uuid4().hex}.conf"
    path.write_text("\n".join(["[keystone_authtoken]", *lines, ""]))
    conf = cfg.ConfigOpts()
    conf([], project="api", default_config_files=[str(path)], default_config_dirs=[])
    return conf


def security(strategy):
    """The options of a security strategy; for None no option at all, which is the default."""
    if strategy == "None":
        return {}
    return {"memcache_security_strategy": strategy, "memcache_secret_key": SECRET_KEY}
