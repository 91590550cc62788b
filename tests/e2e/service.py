"""An API service: keystonemiddleware's `auth_token` before an application that tells who asked.

This is the WSGI script that Apache runs, copied beside its `api.conf`.
"""

import logging
import os
import pathlib

import webob
import webob.dec
from keystonemiddleware import auth_token
from oslo_config import cfg


@webob.dec.wsgify
def who_asked(request):
    """Answers what the middleware handed on."""
    token = request.environ["keystone.token_info"]["token"]
    return webob.Response(
        json={
            "status": request.headers["X-Identity-Status"],
            "user": request.headers["X-User-Name"],
            "project": request.headers["X-Project-Name"],
            "services": len(token["catalog"]),
            "process": os.getpid(),
        }
    )


def read_config(path):
    """oslo.config as a service has it: a file with a [keystone_authtoken] section."""
    conf = cfg.ConfigOpts()
    conf([], project="api", default_config_files=[str(path)], default_config_dirs=[])
    return conf


# At this level oslo.cache's pool tells when it takes its server for dead.
logging.basicConfig()
logging.getLogger("oslo.cache").setLevel(logging.DEBUG)

config = read_config(pathlib.Path(__file__).with_name("api.conf"))
application = auth_token.AuthProtocol(who_asked, {"oslo_config_config": config})
