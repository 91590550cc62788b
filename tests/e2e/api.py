"""The API service under Apache, and requests to it."""

import concurrent.futures
import pathlib
import re
import threading

import requests

import apache

TOKEN_CACHE_TIME_S = 5
# For a server that was gone; 300 s by default. Pools other than the advanced one do not heed it:
# theirs is python-memcached's own 30 s.
DEAD_RETRY_S = 2

# What oslo.cache's pool logs.
DEAD = re.compile(r"Marked host \S+ dead until ([0-9.]+)")


class Api:
    """Several processes of the service, with the mode's options."""

    def __init__(self, directory, python_home, keystone, address, options):
        settings = {
            "www_authenticate_uri": keystone.url,
            "auth_url": keystone.url,
            "auth_type": "password",
            "username": "api",
            "password": keystone.api_password,
            "user_domain_id": "default",
            "project_name": "services",
            "project_domain_id": "default",
            "memcached_servers": address,
            "token_cache_time": TOKEN_CACHE_TIME_S,
            "memcache_pool_dead_retry": DEAD_RETRY_S,
        } | options
        lines = [f"{name} = {value}" for name, value in settings.items()]
        text = "\n".join(["[keystone_authtoken]", *lines, ""])
        (directory / "api.conf").write_text(text.replace("{folder}", str(directory)))
        script = pathlib.Path(__file__).with_name("service.py").read_text()
        self.apache = apache.Apache(directory, python_home, script)

    def ask(self, token, session=requests):
        """One request with this token."""
        return session.get(self.apache.url, headers={"X-Auth-Token": token.id}, timeout=60)

    def ask_in_turn(self, token, count):
        """The answers to so many requests, one after another on one connection."""
        with requests.Session() as session:
            return [self.ask(token, session) for _ in range(count)]

    def ask_at_once(self, token, count):
        """The answers to so many requests on connections of their own, all sent together."""
        barrier = threading.Barrier(count)

        def work(_):
            barrier.wait(timeout=30)
            return self.ask(token)

        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            return list(pool.map(work, range(count)))

    def dead_until(self):
        """The times until which pools took their server for dead, one for each time that they did.

        Of the advanced pool over the text protocol; the others keep no such account.
        """
        return [float(time) for time in re.findall(DEAD, self.apache.error_log())]

    def stop(self):
        """Ends Apache; gives its exit status."""
        return self.apache.stop()
