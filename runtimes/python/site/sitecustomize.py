"""Makes certifi's list of certificate authorities the sandbox's own, which has the authority of the cloud's names here.

tencentcloud-sdk-python and others pass certifi's list to their connections, so that no environment variable reaches them. The list
is replaced when certifi is imported, and only while `SSL_CERT_FILE` is as the platform set it: a function that sets that variable
has certifi's own list. The shim installs this in its process; other Pythons find it on `PYTHONPATH` when they start.
"""

import os
import sys

AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"


class Finder:
    """Waits for the import of certifi."""

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
    """Loads certifi as its own loader does, and then replaces its list."""

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
