"""A server for each module that asks for one. It ends with the module."""

import pytest

from virga import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory, request):
    name = request.module.__name__.replace(".", "-")
    server = Server(tmp_path_factory.mktemp("virga") / "data", name)
    yield server
    server.stop()
