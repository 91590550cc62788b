"""SASL and TLS: the files a server reads for them, and the flags and variables it is started with.

A folder may be the text `{folder}` too, for whoever fills it in later.
"""

import subprocess

from local import find_binary

SASL_CONFIG = """\
mech_list: plain
pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: {folder}/sasldb
"""


def _is_tokencached():
    return find_binary().name.startswith("tokencached")


def write_passwords(folder, user, password):
    """A file of users and passwords, for the server alone to read.

    memcached has them from Cyrus SASL, in a database made by `saslpasswd2` of Debian's sasl2-bin.
    """
    passwords = folder / "passwords"
    passwords.touch(mode=0o600)
    passwords.write_text(f"{user}:{password}\n")
    if not _is_tokencached():
        (folder / "memcached.conf").write_text(SASL_CONFIG.format(folder=folder))
        line = ["saslpasswd2", "-p", "-c", "-a", "memcached", "-f", str(folder / "sasldb"), user]
        subprocess.run(line, input=password.encode(), check=True, capture_output=True)


def sasl_flags(folder):
    """The flags after write_passwords."""
    return ("-S", "-Y", f"{folder}/passwords") if _is_tokencached() else ("-S",)


def sasl_environment(folder):
    """The variables after write_passwords; the second is for a memcached without sasldb."""
    if _is_tokencached():
        return {}
    return {"SASL_CONF_PATH": str(folder), "MEMCACHED_SASL_PWDB": f"{folder}/passwords"}


def make_certificate(folder):
    """A certificate for both loopback addresses, signed by itself, and its key."""
    line = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=cache"
    line += " -addext subjectAltName=IP:127.0.0.1,IP:::1 -keyout key.pem -out certificate.pem"
    subprocess.run(line.split(), cwd=folder, check=True, capture_output=True)


def tls_flags(folder):
    """The flags after make_certificate."""
    return ("-Z", "-o", f"ssl_chain_cert={folder}/certificate.pem,ssl_key={folder}/key.pem")
