"""A test network: two hosts in network namespaces, so that packets from a function are recorded where they would arrive.

virga runs on `host`. It has services of its own and one route, to `world`, which answers for every address: a
public host, the metadata addresses of clouds, an operator's private networks, a resolver. `world` records each packet
that arrives. Neither is connected to any other network.

Run as a program it is what runs inside:  world.py far|near|mark [RECORD]
"""

import itertools
import json
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import time

PUBLIC, RESOLVER, HOST = "198.51.100.10", "10.9.9.53", "203.0.113.2"
NAME = "public.test"
# Where nothing of a function may ever arrive.
FORBIDDEN = ["169.254.169.254", "169.254.0.23", "100.100.100.200", "168.63.129.16", "192.0.0.192", "10.1.2.3", "172.16.5.5",
             "192.168.7.7", RESOLVER]
# Datagrams to ports from here on are the world's own marks, in what arrives.
MARKS = 40000
LONGEST = 120


class World:
    def __init__(self, directory):
        self.host, self.far = ("virga-%s-%d" % (part, os.getpid()) for part in ("host", "far"))
        self.records = {part: os.path.join(str(directory), part) for part in ("far", "near")}
        self.processes = []
        for name in (self.host, self.far):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", self.host, "link", "add", "out", "type", "veth", "peer", "name", "in", "netns", self.far)
        for name, link, address in ((self.host, "out", HOST + "/24"), (self.far, "in", "203.0.113.1/24")):
            ip("-n", name, "address", "add", address, "dev", link)
            ip("-n", name, "link", "set", link, "up")
        ip("-n", self.host, "route", "add", "default", "via", "203.0.113.1")
        for address in [PUBLIC] + FORBIDDEN:
            ip("-n", self.far, "address", "add", address + "/32", "dev", "lo")
        for name, part in ((self.far, "far"), (self.host, "near")):
            process = self.spawn(name, [sys.executable, os.path.abspath(__file__), part, self.records[part]], stdout=subprocess.PIPE)
            assert process.stdout.readline() == b"ready\n"
        self.marks = itertools.count(MARKS + 1)
        self.marker = self.spawn(self.host, [sys.executable, os.path.abspath(__file__), "mark", os.devnull], stdin=subprocess.PIPE)
        self.queries = os.path.join(str(directory), "queries")
        self.spawn(self.far, ["dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root", "--pid-file=",
                              "--listen-address=" + RESOLVER, "--bind-interfaces", "--address=/%s/%s" % (NAME, PUBLIC),
                              "--log-queries", "--log-facility=" + self.queries])

    def spawn(self, namespace, command, **more):
        process = subprocess.Popen(["nsenter", "--net=/run/netns/" + namespace] + command, **more)
        self.processes.append(process)
        return process

    def run(self, namespace, *command):
        return subprocess.run(["nsenter", "--net=/run/netns/" + namespace] + list(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=30).stdout.decode()

    def arrived(self, part="far"):
        """Returns the traffic that arrived: packets at the far side, connections to the host's own services at the near one.

        Everything sent before this call is included: it waits until a marker, sent the same way, has arrived.
        """
        mark = next(self.marks)
        to = "%s %d" % (PUBLIC, mark) if part == "far" else "127.0.0.1 %d" % MARKS
        self.marker.stdin.write(b"%s %d\n" % (to.encode(), mark))
        self.marker.stdin.flush()
        begun = time.time()
        while True:
            found = [json.loads(line) for line in complete_lines(self.records[part])]
            if any(one.get("port") == mark for one in found):
                return [one for one in found if one.get("port", 0) < MARKS]
            assert time.time() - begun < LONGEST, "a mark does not arrive"
            time.sleep(0.005)

    def close(self):
        for process in self.processes:
            process.kill()
            process.wait()
        for name in (self.host, self.far):
            ip("netns", "delete", name)


def ip(*arguments):
    subprocess.run(["ip"] + list(arguments), check=True, env=dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin:/sbin"))


def complete_lines(path):
    """The lines of a file that another process appends to. A file's own iterator would give the rest of a half-written line as a line."""
    with open(path) as file:
        return file.read().rpartition("\n")[0].splitlines()


def record(path, what):
    with open(path, "a") as file:
        file.write(json.dumps(what) + "\n")


def far(path):
    """Answers TCP on port 80 and UDP on port 7 of all addresses, and records every IP packet that comes in."""
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0003))
    packets.bind(("in", 0))
    threading.Thread(target=capture, args=(packets, path), daemon=True).start()
    connections = listen(("", 80))
    datagrams = []
    for address in [PUBLIC] + FORBIDDEN:  # Each answers as itself.
        datagrams.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        datagrams[-1].bind((address, 7))
    print("ready", flush=True)
    while True:
        for ready in select.select([connections] + datagrams, [], [])[0]:
            if ready is not connections:
                data, peer = ready.recvfrom(65536)
                ready.sendto(data, peer)
            else:
                connection, _ = ready.accept()
                connection.sendall(b"far\n")
                connection.close()


def capture(packets, path):
    while True:
        data, (_, protocol, kind, _, _) = packets.recvfrom(65536)
        if kind == socket.PACKET_OUTGOING or protocol not in (0x0800, 0x86DD):
            continue
        if protocol == 0x86DD:
            record(path, {"family": 6, "to": socket.inet_ntop(socket.AF_INET6, data[24:40])})
            continue
        ports = struct.unpack_from(">HH", data, (data[0] & 15) * 4) if data[9] in (6, 17) else (0, 0)
        record(path, {"family": 4, "protocol": data[9], "from": socket.inet_ntoa(data[12:16]), "to": socket.inet_ntoa(data[16:20]),
                      "port": ports[1]})


def near(path):
    """The host's own services: one for everybody, one on its loopback, and one for datagrams."""
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("", 8097))
    marks = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    marks.bind(("127.0.0.1", MARKS))
    listening = [listen(("", 8099)), listen(("127.0.0.1", 8098)), datagrams, marks]
    open(path, "w").close()
    print("ready", flush=True)
    while True:
        for ready in select.select(listening, [], [])[0]:
            if ready is marks:
                record(path, {"port": int(ready.recv(65536))})
                continue
            peer = ready.recvfrom(65536)[1] if ready is datagrams else ready.accept()[1]
            record(path, {"from": peer[0], "port": ready.getsockname()[1]})


def mark(_):
    """Sends what each line of the standard input says: an address, a port, and the mark."""
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for line in sys.stdin:
        address, port, mark = line.split()
        sender.sendto(mark.encode(), (address, int(port)))


def listen(address):
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(address)
    listening.listen(64)
    return listening


if __name__ == "__main__":
    if sys.argv[1] != "mark":
        open(sys.argv[2], "w").close()
    {"far": far, "near": near, "mark": mark}[sys.argv[1]](sys.argv[2])
