"""The real binary, in a directory and on a port of its own, for judges that are not ours.

VIRGA names the binary. Every server ends with its test session.
"""

import json
import os
import signal
import subprocess

import pytest


class Server:
    def __init__(self, directory, name):
        command = [os.environ["VIRGA"], "up", "--listen", "127.0.0.1:0", "--data", str(directory), "--cgroup", "virga-sdk-%s" % name,
                   "--uid-base", "80000000", "--log-format", "json"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=open(str(directory) + ".log", "w"))
        line = self.process.stdout.readline().decode()
        assert line.startswith("virga is ready: "), open(str(directory) + ".log").read()
        self.address = line.split("http://")[1].split()[0]
        pair = json.load(open(os.path.join(str(directory), "credentials.json")))
        self.secret_id, self.secret_key = pair["secret_id"], pair["secret_key"]

    def environment(self):
        """The environment for a client in a process of its own."""
        own = {
            "ENDPOINT": self.address,
            "TENCENTCLOUD_SECRET_ID": self.secret_id,
            "TENCENTCLOUD_SECRET_KEY": self.secret_key,
            "TENCENTCLOUD_REGION": "ap-guangzhou",
            "NO_PROXY": "127.0.0.1",
        }
        return dict(os.environ, **own)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0


@pytest.fixture(scope="module")
def server(tmp_path_factory, request):
    name = request.module.__name__.replace(".", "-")
    server = Server(tmp_path_factory.mktemp("virga") / "data", name)
    yield server
    server.stop()
