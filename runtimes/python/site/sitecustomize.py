"""Replaces certifi's CA list by the sandbox's own, which contains the CA for the cloud's host names.

tencentcloud-sdk-python and other libraries pass certifi's list to their connections, so environment variables have no effect on
them. The list is replaced when certifi is imported, unless the function has changed `SSL_CERT_FILE`. The shim installs this
module in its own process; other Python processes load it from `PYTHONPATH` at start.
"""

import os
import sys

AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"


class Finder:
    """An import hook for certifi."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != "certifi.core":
            return None
        sys.meta_path.remove(cls)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target) if hasattr(finder, "find_spec") else None
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = Loader(spec.loader)
                return spec
        return None


class Loader:
    """Loads certifi with its own loader, then replaces its CA list."""

    def __init__(self, own):
        self.own = own

    def __getattr__(self, name):
        return getattr(self.own, name)

    def create_module(self, spec):
        return self.own.create_module(spec)

    def exec_module(self, module):
        module.__loader__ = module.__spec__.loader = self.own
        self.own.exec_module(module)
        module.where = lambda: AUTHORITIES
        module.contents = contents


def contents():
    with open(AUTHORITIES, encoding="ascii", errors="replace") as file:
        return file.read()


def install():
    if os.environ.get("SSL_CERT_FILE") == AUTHORITIES and Finder not in sys.meta_path:
        sys.meta_path.insert(0, Finder)


if __name__ == "sitecustomize":
    install()
