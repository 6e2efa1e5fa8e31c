"""A real SeaweedFS, in a directory and on ports of its own, without authentication; it can notify a webhook of its changes."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

WEED = os.path.join(os.path.dirname(sys.executable), "weed")
FOUND = WEED if os.path.exists(WEED) else shutil.which("weed")
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ports(count):
    """Ports that nobody uses."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    found = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return found


class SeaweedFS:
    def __init__(self, directory, endpoint=None, token=None):
        self.directory = str(directory)
        os.makedirs(self.directory)
        if endpoint:
            with open(os.path.join(self.directory, "notification.toml"), "w") as file:
                file.write('[notification.webhook]\nenabled = true\nendpoint = "%s"\nbearer_token = "%s"\nbackoff_seconds = 1\n'
                           % (endpoint, token))
        names = ["master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc", "s3.port",
                 "s3.port.grpc"]
        given = dict(zip(names, ports(len(names))))
        given.update({"s3.port.iceberg": 0, "s3.port.lance": 0})
        self.address = "127.0.0.1:%d" % given["s3.port"]
        self.command = [FOUND, "server", "-dir=.", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", "-s3.iam=false", "-volume.max=10",
                   "-master.volumeSizeLimitMB=64", "-master.telemetry=false"] + ["-%s=%d" % pair for pair in given.items()]
        self.log = os.path.join(self.directory, "weed.log")
        self.start()

    def start(self):
        """Starts it where it was, and waits until it takes a bucket."""
        self.process = subprocess.Popen(self.command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=open(self.log, "a"),
                                        stderr=subprocess.STDOUT)
        for _ in range(600):
            assert self.process.poll() is None, open(self.log).read()
            try:
                return self.call("PUT", "/first") and None
            except urllib.error.HTTPError as error:
                if error.code == 409:
                    return
                time.sleep(0.1)
            except (OSError, urllib.error.URLError):
                time.sleep(0.1)
        raise AssertionError(open(self.log).read())

    def call(self, method, path, body=b"", **headers):
        """A request of S3's; gives the answer's headers and body."""
        url = "http://%s%s" % (self.address, urllib.parse.quote(path, safe="/?=&"))
        request = urllib.request.Request(url, data=body, method=method, headers=headers)
        with DIRECT.open(request, timeout=60) as answer:
            return answer.headers, answer.read().decode()

    def stop(self):
        # Asked to, it takes a minute to end.
        self.process.kill()
        self.process.wait(60)
