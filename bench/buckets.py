"""Buckets: PUT and GET of small and large objects, compared to SeaweedFS. See README.md in this directory.

Every request is a presigned URL, and both servers verify the signature. virga acknowledges a PUT once the object is on stable
storage. SeaweedFS is measured with its defaults, which sync nothing, and with synced volumes. The latter syncs the content of
objects but not the filer's index of their names, which is still a weaker guarantee.
"""

import concurrent.futures
import contextlib
import hashlib
import hmac
import http.client
import json
import os
import subprocess
import tempfile
import time
import urllib.parse

from harness import HERE, Virga, check, served_on, sync_time

CONNECTIONS = 16
SMALL, LARGE = 4 << 10, 64 << 20
BUCKET = "bench"
KEYS = ("bench-key", "bench-secret")
REGION = "ap-guangzhou"


def measure(options):
    servers = {"virga": virga, "seaweedfs, not synced": weed(False), "seaweedfs, volumes synced": weed(True)}
    found = {}
    for name, server in servers.items():
        with server(options) as place:
            found[name] = {"small": small(options, place), "large": large(options, place)}
    return {"found": found, "sync_us": sync_time()}


class Place:
    """An object store under test, with its credentials."""

    def __init__(self, address, pair):
        self.address, self.pair = address, pair
        connection = http.client.HTTPConnection(address, timeout=60)
        # Create the bucket, and a first object, for which SeaweedFS allocates a volume.
        for key in ("", "first"):
            connection.request("PUT", self.sign("PUT", key), b"" if key == "" else b"x")
            answer = connection.getresponse()
            check(answer.read() is not None and answer.status == 200, "PUT of %s failed: %d" % (key or "the bucket", answer.status))

    def sign(self, method, key):
        """Returns the path of a presigned request (AWS signature version 4)."""
        at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        scope = "%s/%s/s3/aws4_request" % (at[:8], REGION)
        path = "/%s/%s" % (BUCKET, key) if key else "/" + BUCKET
        query = urllib.parse.urlencode({
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Credential": "%s/%s" % (self.pair[0], scope), "X-Amz-Date": at,
            "X-Amz-Expires": "3600", "X-Amz-SignedHeaders": "host",
        })
        canonical = "%s\n%s\n%s\nhost:%s\n\nhost\nUNSIGNED-PAYLOAD" % (method, path, query, self.address)
        text = "AWS4-HMAC-SHA256\n%s\n%s\n%s" % (at, scope, hashlib.sha256(canonical.encode()).hexdigest())
        secret = ("AWS4" + self.pair[1]).encode()
        for part in (at[:8], REGION, "s3", "aws4_request"):
            secret = hmac.new(secret, part.encode(), hashlib.sha256).digest()
        return "%s?%s&X-Amz-Signature=%s" % (path, query, hmac.new(secret, text.encode(), hashlib.sha256).hexdigest())


@contextlib.contextmanager
def virga(options):
    with Virga(options, ["--bucket-store-mb", "65536"]) as server:
        yield Place(server.buckets, server.pair)


def weed(synced):
    @contextlib.contextmanager
    def start(options):
        program = os.path.join(options.venv, "bin", "weed")
        with tempfile.TemporaryDirectory() as directory:
            identity = {"name": "bench", "credentials": [dict(zip(("accessKey", "secretKey"), KEYS))], "actions": ["Admin", "Read", "Write", "List"]}
            with open(directory + "/s3.json", "w") as file:
                json.dump({"identities": [identity]}, file)
            names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc", "s3.port.grpc")
            command = [program, "server", "-dir=.", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", "-s3.iam=false", "-s3.config=s3.json", "-s3.port.iceberg=0",
                       "-s3.port.lance=0", "-volume.max=50", "-master.volumeSizeLimitMB=1024", "-master.telemetry=false", "-s3.port={port}"]
            with served_on(command, directory, names) as (address, ports):
                if synced:
                    told = "fs.configure -locationPrefix=/buckets/%s/ -fsync=true -apply\n" % BUCKET
                    master, filer = ("127.0.0.1:%d.%d" % (ports[name], ports[name + ".grpc"]) for name in ("master.port", "filer.port"))
                    shell = subprocess.run([program, "shell", "-master=" + master, "-filer=" + filer], input=told.encode(),
                                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=directory, timeout=60)
                    check(b'"fsync":  true' in shell.stdout or b'"fsync": true' in shell.stdout, shell.stdout)
                yield Place(address, KEYS)
    return start


def small(options, place):
    """Objects per second with `wrk`: each PUT uses a new key, then GETs read them."""
    seconds, keys = (1, 2000) if options.quick else (8, 40000)
    result = {}
    for method in ("PUT", "GET"):
        with tempfile.NamedTemporaryFile("w", suffix=".paths") as file:
            # GETs only read keys that were certainly written. `wrk` generates its first request without sending it.
            numbers = range(keys) if method == "PUT" else range(1, 200)
            file.write("\n".join(place.sign(method, "small/%d" % number) for number in numbers))
            file.flush()
            environment = dict(os.environ, WRK_PATHS=file.name, WRK_METHOD=method, WRK_BYTES=str(SMALL))
            for length in (1, seconds):  # The first run warms up.
                command = ["wrk", "-t1", "-c%d" % CONNECTIONS, "-d%ds" % length, "--timeout", "30s", "-s", HERE + "/objects.lua",
                           "http://%s/" % place.address]
                output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout
        found = json.loads(output.decode().splitlines()[-1])
        check(found["wrong"] == 0 and found["requests"] >= 200, "%s: %s" % (method, found))
        result[method] = {"per_second": round(found["requests"] / found["us"] * 1e6), "p50_us": found["p50_us"], "p99_us": found["p99_us"]}
    return result


def large(options, place):
    """MB/s of two clients, each of which PUTs and then GETs objects sequentially."""
    clients, rounds = 2, 1 if options.quick else 6
    body = os.urandom(1 << 20) * (LARGE >> 20)

    def one(method):
        def load(client):
            connection = http.client.HTTPConnection(place.address, timeout=120)
            for number in range(rounds):
                connection.request(method, place.sign(method, "large/%d-%d" % (client, number)), body if method == "PUT" else None)
                answer, length = connection.getresponse(), 0
                while piece := answer.read(1 << 20):
                    length += len(piece)
                check(answer.status == 200 and (method == "PUT" or length == LARGE), "%s: %d, %d bytes" % (method, answer.status, length))
        return load

    result = {}
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        for method in ("PUT", "GET"):
            begun = time.perf_counter()
            list(pool.map(one(method), range(clients)))
            result[method] = {"mb_per_second": round(clients * rounds * LARGE / 1e6 / (time.perf_counter() - begun))}
    return result


def targets(results):
    mine, peer = (results["found"][name]["small"] for name in ("virga", "seaweedfs, volumes synced"))
    return [
        ("durable puts of 4 KB a second, times seaweedfs, synced", round(mine["PUT"]["per_second"] / peer["PUT"]["per_second"], 2), ">=", 2),
        ("gets of 4 KB a second, times seaweedfs", round(mine["GET"]["per_second"] / peer["GET"]["per_second"], 2), ">=", 1.5),
    ]


def show(results):
    print("buckets (one sync of this disk: %d us)    4 KB, %d connections: put/s  get/s   64 MB: put MB/s  get MB/s" % (results["sync_us"], CONNECTIONS))
    for name, row in results["found"].items():
        print("  %-34s %27d %6d %17d %9d" % (name, row["small"]["PUT"]["per_second"], row["small"]["GET"]["per_second"],
                                             row["large"]["PUT"]["mb_per_second"], row["large"]["GET"]["mb_per_second"]))
