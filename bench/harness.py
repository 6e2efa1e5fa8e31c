"""The common parts of all benchmarks: running virga and its peers, and measuring."""

import base64
import concurrent.futures
import contextlib
import glob
import http.client
import io
import itertools
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile

from client import Client

HERE = os.path.dirname(os.path.abspath(__file__))
PEERS = os.path.join(HERE, "peers")
EVENT = '{"name": "world"}'
NUMBERS = itertools.count()
USERS = 65_000


class Virga:
    """A running virga in a directory of its own. Several can run at the same time."""

    def __init__(self, options, flags):
        self.options, self.flags = options, flags
        self.number = next(NUMBERS)
        self.cgroup = "virga-bench-%d" % self.number

    def __enter__(self):
        self.directory = tempfile.mkdtemp()
        self.start()
        return self

    def start(self):
        limits = "functions_per_namespace=100000,concurrency_mb=1000000000,scale_out_per_minute=0"
        command = [self.options.virga, "up", "--listen", "127.0.0.1:0", "--bucket-listen", "127.0.0.1:0", "--data", self.directory, "--cgroup", self.cgroup, "--log", "warn",
                   "--uid-base", str(90_000_000 + USERS * self.number), "--uid-count", str(USERS), "--limits", limits, "--node-memory-mb", "100000000", "--max-waiting", "100000", "--wait", "120"] + self.flags
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        line = self.process.stdout.readline().decode()
        check(line.startswith("virga is ready"), line)
        self.address = line.split("http://")[1].split()[0]
        pair = json.load(open(self.directory + "/credentials.json"))
        self.buckets = line.split("buckets http://")[1].split()[0]
        self.pair = (pair["secret_id"], pair["secret_key"])
        self.client = self.connect()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    def restart(self):
        """Restarts it; returns the time from the start until it is ready (s)."""
        self.stop()
        begun = time.perf_counter()
        self.start()
        return time.perf_counter() - begun

    def __exit__(self, *failure):
        self.stop()
        shutil.rmtree(self.directory)

    def idle(self, count):
        """Starts `count` idle instances, each of a different function. Returns the PSS before (kB)."""
        self.deploy(count)
        before = pss(self)
        self.call_each(range(count), 2)
        time.sleep(8)  # Wait until the pool has shrunk to its normal size again.
        return before

    def call_each(self, numbers, callers):
        """Invokes the numbered functions once each. Returns the rate per second."""

        def call(numbers):
            client = self.connect()
            for number in numbers:
                answer = client.call("Invoke", {"FunctionName": "f%d" % number, "ClientContext": EVENT})
                check(answer["Result"]["InvokeResult"] == 0, answer)

        begun = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(callers) as pool:
            list(pool.map(call, [numbers[start::callers] for start in range(callers)]))
        return round(len(numbers) / (time.perf_counter() - begun), 1)

    def connect(self):
        return Client(self.address, *self.pair)

    def create(self, name, source=None, timeout=10):
        if source is None:
            source = open(PEERS + "/handler.py").read()
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("index.py", source)
        self.client.call("CreateFunction", {
            "FunctionName": name, "Runtime": "Python3.11", "MemorySize": 128, "Timeout": timeout,
            "Code": {"ZipFile": base64.b64encode(packed.getvalue()).decode()},
        })

    def create_web(self, name, files):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for path, content in files.items():
                info = zipfile.ZipInfo(path)
                info.external_attr = 0o755 << 16
                archive.writestr(info, content)
        self.client.call("CreateFunction", {
            "FunctionName": name, "Type": "HTTP", "Runtime": "Nodejs18.15", "MemorySize": 256, "Timeout": 10,
            "Code": {"ZipFile": base64.b64encode(packed.getvalue()).decode()},
        })

    def url(self, name):
        """Creates an open URL for a function; returns its path."""
        trigger = {"FunctionName": name, "TriggerName": "url", "Type": "http", "TriggerDesc": json.dumps({"AuthType": "NONE"})}
        return "/url/" + self.client.call("CreateTrigger", trigger)["TriggerInfo"]["TriggerName"]

    def deploy(self, count):
        for number in range(count):
            self.create("f%d" % number)
        # Exclude the first start of the interpreter, which is not a cold start of a function.
        self.create("first")
        self.client.call("Invoke", {"FunctionName": "first", "ClientContext": EVENT})
        time.sleep(1)


@contextlib.contextmanager
def served_on(command, directory, names):
    """As `served`, with a free port for each of the named options; yields the address and the ports. Ends with SIGKILL."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in names]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        ports = {name: probe.getsockname()[1] for name, probe in zip(names, probes)}
    command = command + ["-%s=%d" % pair for pair in ports.items()]
    with served(command, directory, subprocess.DEVNULL, gently=False) as address:
        yield address, ports


@contextlib.contextmanager
def served(command, directory, output=None, gently=True):
    """Runs a peer's server and waits until it listens. It prints its address, or receives a port through `{port}`."""
    if any("{port}" in part for part in command):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        process = subprocess.Popen([part.replace("{port}", str(port)) for part in command], cwd=directory, stdout=output, stderr=output)
        address = "127.0.0.1:%d" % port
    else:
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        address = process.stdout.readline().decode().strip()
    try:
        begun = time.time()
        while True:
            try:
                socket.create_connection(address.split(":"), 1).close()
                break
            except OSError:
                check(time.time() - begun < 30, "%s does not listen" % command[0])
                time.sleep(0.05)
        yield address
    finally:
        process.terminate() if gently else process.kill()
        process.wait(30)


def tree(server):
    """Returns the pids of a server and its descendants."""
    children = {}
    for path in glob.glob("/proc/[0-9]*/stat"):
        with contextlib.suppress(OSError):
            children.setdefault(int(open(path).read().rsplit(")", 1)[1].split()[1]), []).append(int(path.split("/")[2]))
    found = [server.process.pid]
    for process in found:
        found += children.get(process, [])
    return found


def pss(server):
    """Returns the PSS of a server's descendants, without the server itself (kB)."""
    total = 0
    for process in tree(server)[1:]:
        with contextlib.suppress(OSError):
            for line in open("/proc/%d/smaps_rollup" % process):
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    check(total > 0, "no process was found below virga")
    return total


def resident(server):
    """Returns the resident memory of virga itself (kB)."""
    for line in open("/proc/%d/status" % server.process.pid):
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise SystemExit("bench: no VmRSS for virga; has it exited?")


def processor_times(server):
    """Returns the CPU time of a server and its descendants: user and system, then the same of exited children (s)."""
    sums = [0] * 4
    for process in tree(server):
        with contextlib.suppress(OSError):
            words = open("/proc/%d/stat" % process).read().rsplit(")", 1)[1].split()
            sums = [so_far + int(ticks) for so_far, ticks in zip(sums, words[11:15])]
    return [ticks / os.sysconf("SC_CLK_TCK") for ticks in sums]


def processor_seconds(server):
    """Returns the CPU time of a server and its live descendants (s)."""
    return sum(processor_times(server)[:2])


def metrics(server):
    """Returns the server's metrics page."""
    connection = http.client.HTTPConnection(server.address, timeout=60)
    connection.request("GET", "/metrics")
    return connection.getresponse().read().decode()


def plain_fork(rounds):
    """Returns the command of the plain-fork baseline, which prints its measurements as JSON."""
    shim = os.path.join(HERE, "..", "runtimes", "python", "shim.py")
    return [os.path.realpath(sys.executable), "-I", "-S", HERE + "/baseline.py", shim, PEERS, EVENT, str(rounds)]


def sync_time():
    """Returns the median duration of an fsync of a small write on this disk, the lower bound of an acknowledgement (µs)."""
    with tempfile.TemporaryFile() as file:
        samples = []
        for _ in range(200):
            file.write(b"x" * 4096)
            file.flush()
            begun = time.perf_counter()
            os.fdatasync(file.fileno())
            samples.append(time.perf_counter() - begun)
        return round(sorted(samples)[100] * 1e6)


class Load:
    """A request that `wrk` sends to a server repeatedly."""

    def __init__(self, address, headers, body, expected):
        self.address, self.expected = address, expected
        self.request = "".join("%s: %s\n" % pair for pair in headers.items()) + "\n" + body
        self.length = None

    def checked(self, connections, seconds):
        """Runs the load and verifies every response body. Returns the number of requests and their latencies."""
        found = self.wrk(connections, seconds, {"WRK_EXPECTED": self.expected})
        self.length = found["bytes"] / found["requests"]
        return found

    def run(self, connections, seconds):
        """Runs the load at minimal cost to `wrk`: checks only status codes, and the length of the responses."""
        found = self.wrk(connections, seconds, {})
        check(abs(found["bytes"] / found["requests"] / self.length - 1) < 0.02, found)
        return found

    def wrk(self, connections, seconds, how):
        with tempfile.NamedTemporaryFile("w", suffix=".request") as file:
            file.write(self.request)
            file.flush()
            command = ["wrk", "-t1", "-c%d" % connections, "-d%ds" % seconds, "--timeout", "30s", "-s", HERE + "/wrk.lua",
                       "http://%s/" % self.address]
            environment = dict(os.environ, WRK_REQUEST=file.name, **how)
            output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout
        found = json.loads(output.decode().splitlines()[-1])
        check(found["wrong"] == 0 and found["requests"] > 0, found)
        return found


def spread(values):
    values = sorted(values)
    return {
        "n": len(values),
        "p50_ms": round(statistics.median(values), 3),
        "p99_ms": round(values[min(len(values) - 1, int(len(values) * 0.99))], 3),
    }


def check(true, message):
    if not true:
        raise SystemExit("bench: %s" % (message,))
