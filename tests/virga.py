"""The real binary, in a directory and on a port of its own, for tests with other people's clients. VIRGA names the binary."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile

AS_USER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "as-user")

NUMBERS = itertools.count()
USERS = 70000

# Warnings that are expected of any server (the host may have no resolver but on its loopback), of one that was killed, that an ordinary user started, or that has no isolation. crates/testkit has the same list.
ANYWHERE = ["functions cannot resolve names: this host has no resolver", "no DNS server is known, so no custom domain can be proved"]
AFTER_KILL = ["skipping user ids that processes of an earlier run or of another virga run as"]
OF_A_USER = ["cannot make disks; temporary files of functions are kept in memory"]
WITHOUT_ISOLATION = OF_A_USER + ["--isolation=process: functions are processes of this host"]


def unexpected(log, expected):
    """The warnings, errors and panics in a log whose message begins with none of those expected."""
    found = []
    for line in log.splitlines():
        if line.startswith("thread '") and "panicked at" in line:
            found.append(line)
        if not line.startswith("{"):
            continue
        parsed = json.loads(line)
        if parsed["level"] in ("WARN", "ERROR") and not parsed["fields"].get("message", "").startswith(tuple(expected)):
            found.append(line)
    return found


class Server:
    """A server that has no way out of this machine, unless `flags` give it one; in the network namespace `inside`, if any."""

    def __init__(self, directory, name, flags=("--network", "internal"), inside=None):
        self.data = str(directory)
        self.expected = ANYWHERE + (WITHOUT_ISOLATION if "process" in flags else [])
        self.prefix = ["nsenter", "--net=/run/netns/" + inside] if inside else []
        self.command = self.prefix + [
            os.environ["VIRGA"], "up", "--listen", "127.0.0.1:0", "--bucket-listen", "127.0.0.1:0", "--domain-allow", "*", "--data", self.data, "--cgroup", "virga-sdk-" + name, "--uid-base",
            str(80000000 + USERS * next(NUMBERS)), "--log-format", "json"
        ] + list(flags)
        self.start()
        self.read_credentials()

    def read_credentials(self):
        pair = json.load(open(os.path.join(self.data, "credentials.json")))
        self.secret_id, self.secret_key = pair["secret_id"], pair["secret_key"]

    def start(self):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("VIRGA_")}
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=open(self.data + ".log", "a"), env=environment)
        line = self.process.stdout.readline().decode()
        assert line.startswith("virga is ready: "), open(self.data + ".log").read()
        self.address = line.split("http://")[1].split()[0]
        self.tls = line.split("https://")[1].split()[0] if "https://" in line else None
        self.buckets = line.split("buckets http://")[1].split()[0] if "buckets http://" in line else None
        self.metrics = line.split("metrics http://")[1].split()[0] if "metrics http://" in line else None

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

    def cli(self, *arguments, check=True, timeout=60):
        """Runs virga's command line where the server is; gives what it printed."""
        environment = dict(os.environ, VIRGA_DATA=self.data, VIRGA_ENDPOINT="http://" + self.address, XDG_STATE_HOME=self.data + ".state")
        done = subprocess.run(self.prefix + [os.environ["VIRGA"]] + list(arguments), env=environment, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=timeout)
        assert done.returncode == 0 or not check, (arguments, done.stdout, done.stderr)
        return done.stdout.decode()

    def expect(self, *messages):
        """Allows warnings and errors in the log whose message begins so, because a test provokes them."""
        self.expected += messages

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0
        left = subprocess.run(["find", "/sys/fs/cgroup", "-name", self.command[self.command.index("--cgroup") + 1]], stdout=subprocess.PIPE)
        assert not left.stdout, "control groups are left: %r" % left.stdout
        found = unexpected(open(self.data + ".log").read(), self.expected)
        assert not found, "warnings or errors that no test expects (Server.expect): %s" % "\n".join(found[:20])

    def kill(self):
        self.expect(*AFTER_KILL)
        self.process.kill()
        self.process.wait(60)


class UserServer(Server):
    """The same, started by an ordinary user."""

    USER = 29999

    def __init__(self, name, flags=("--network", "internal")):
        # Where that user comes by: other temporary directories are root's alone.
        self.home = tempfile.mkdtemp(prefix="virga-user-")
        os.chmod(self.home, 0o755)
        binary = shutil.copy(os.environ["VIRGA"], self.home)
        self.data = os.path.join(self.home, "own", "data")
        os.mkdir(os.path.dirname(self.data))
        os.chown(os.path.dirname(self.data), self.USER, self.USER)
        self.expected = ANYWHERE + OF_A_USER
        self.prefix = []
        self.group = "virga-user-" + name
        self.command = [
            AS_USER, str(self.USER), self.home, self.group, binary, "up", "--listen", "127.0.0.1:0", "--bucket-listen", "127.0.0.1:0", "--domain-allow", "*", "--data", self.data, "--cgroup",
            "virga-sdk-" + name, "--log-format", "json"
        ] + list(flags)
        self.start()
        self.read_credentials()

    def stop(self):
        super().stop()
        subprocess.run(["find", "/sys/fs/cgroup", "-depth", "-path", "*/%s*" % self.group, "-type", "d", "-exec", "rmdir", "{}", ";"])
        shutil.rmtree(self.home)
