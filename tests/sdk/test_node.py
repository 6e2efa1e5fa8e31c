"""The clients that run in Node.js: the official SDK, and the one that the Serverless tool-kit is built on."""

import os
import subprocess

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))


@pytest.mark.parametrize("script", ["sdk.js", "toolkit.js"])
def test_function_lifecycle(server, script):
    modules = os.environ["NODE_MODULES"]
    environment = dict(server.environment(), NODE_PATH=modules)
    done = subprocess.run(["node", os.path.join(HERE, "node", script)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    text = done.stdout.decode()
    assert done.returncode == 0 and text.endswith("all is well\n"), text
