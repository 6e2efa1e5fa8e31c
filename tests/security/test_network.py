"""Reachable and unreachable addresses of a function, checked from both ends. No packet leaves this machine."""

import json
import os
import threading

import pytest

import world as far
from virga import Server

HERE = os.path.dirname(os.path.abspath(__file__))
REFUSED = "EHOSTUNREACH|ENETUNREACH|ECONNREFUSED|EACCES|EADDRNOTAVAIL|EPERM"
PROTOCOLS = {"tcp": 6, "udp": 17}


class Site:
    """A virga in a world, with functions that try things."""

    def __init__(self, directory, world, flags, name):
        self.world = world
        self.server = Server(directory / name, name, list(flags), world.host)

    def deploy(self, name, *flags):
        self.server.cli("deploy", os.path.join(HERE, "reacher.py"), "--name", name, "--handler", "reacher.main_handler", "--timeout", "20", *flags)

    def call(self, function, do, **event):
        printed = self.server.cli("invoke", function, json.dumps(dict(event, do=do)))
        return json.loads(json.loads(printed)["RetMsg"])


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = far.World(tmp_path_factory.mktemp("world"))
    yield world
    world.close()


@pytest.fixture(scope="module")
def site(world, tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("virga"), world, ["--dns", far.RESOLVER], "net")
    site.deploy("online")
    site.deploy("offline", "--public-net", "DISABLE")
    yield site
    site.server.stop()


def refused(result):
    return result in REFUSED.split("|")


def reached(world, address, protocol, port):
    return [packet for packet in world.arrived() if (packet["to"], packet.get("protocol"), packet.get("port")) == (address, protocol, port)]


def test_public_addresses_are_reachable_from_the_host_address(site, world):
    assert site.call("online", "tcp", host=far.PUBLIC, port=80, read=True) == "far\n"
    assert site.call("online", "udp", host=far.PUBLIC, port=7) == "ping"
    for protocol, port in ((6, 80), (17, 7)):
        sources = {packet["from"] for packet in reached(world, far.PUBLIC, protocol, port)}
        assert sources == {far.HOST}


def test_names_resolve_by_the_hosts_resolver(site, world):
    assert site.call("online", "resolve", host=far.NAME) == far.PUBLIC
    assert site.call("online", "tcp", host=far.NAME, port=80, read=True) == "far\n"
    assert far.NAME in open(world.queries).read()


CLOUD = ["scf.tencentcloudapi.com", "scf.internal.tencentcloudapi.com", "p-1.cos.ap-guangzhou.myqcloud.com"]


def test_cloud_names_are_answered_inside_and_never_forwarded(site, world):
    found = [site.call("online", "resolve", host=name) for name in CLOUD]
    assert found[0] == found[1] == site.call("online", "resolve", host="virga.internal") != found[2]
    for address in found:
        assert site.call("online", "tcp", host=address, port=443) == "connected"
        assert refused(site.call("online", "tcp", host=address, port=22))
    # By then the list has every question that the host's resolver received before this one.
    assert site.call("online", "resolve", host=far.NAME) == far.PUBLIC
    asked = open(world.queries).read()
    assert far.NAME in asked and "tencentcloudapi" not in asked and "myqcloud" not in asked


def test_cloud_names_off_uses_the_hosts_resolver(world, tmp_path):
    # Its range is another one than that of the first virga here.
    site = Site(tmp_path, world, ["--cloud-names", "off", "--dns", far.RESOLVER], "off")
    site.deploy("online")
    for name in CLOUD:
        assert not str(site.call("online", "resolve", host=name)).startswith("198.")
    assert site.call("online", "resolve", host=far.NAME) == far.PUBLIC
    assert refused(site.call("online", "tcp", host=site.call("online", "resolve", host="virga.internal"), port=443))
    asked = open(world.queries).read()
    assert all(name in asked for name in CLOUD)
    site.server.stop()


@pytest.mark.parametrize("how, port", [("tcp", 80), ("udp", 7), ("tcp", 53), ("udp", 53)])
@pytest.mark.parametrize("address", far.FORBIDDEN)
def test_secrets_and_private_networks_are_not_reached(site, world, address, how, port):
    before = len(reached(world, address, PROTOCOLS[how], port))
    assert refused(site.call("online", how, host=address, port=port))
    # Names that other tests resolve come from the same place.
    assert len(reached(world, address, PROTOCOLS[how], port)) == before


@pytest.mark.parametrize("address", [far.HOST, "198.19.255.253", "198.19.255.254", "198.18.0.1", "198.18.0.2", "127.0.0.1", "127.0.0.53", "0.0.0.0"])
@pytest.mark.parametrize("how, port", [("tcp", 8099), ("tcp", 8098), ("tcp", 22), ("udp", 8097)])
def test_the_hosts_own_services_are_not_reached(site, world, address, how, port):
    assert refused(site.call("online", how, host=address, port=port))
    assert world.arrived("near") == []


def test_the_api_on_the_hosts_side_is_not_reached(site):
    port = int(site.server.address.rsplit(":", 1)[1])
    for address in (far.HOST, "127.0.0.1", "198.19.255.253"):
        assert refused(site.call("online", "tcp", host=address, port=port))


@pytest.mark.parametrize("address", ["255.255.255.255", "203.0.113.255", "224.0.0.1", "239.1.2.3", "198.19.255.255"])
def test_multicast_and_broadcast_are_dropped(site, world, address):
    assert refused(site.call("online", "udp", host=address, port=7, broadcast=True)) or reached(world, address, 17, 7) == []
    assert reached(world, address, 17, 7) == []


@pytest.mark.parametrize("address", ["2001:db8::1", "fe80::1%eth0", "fe80::1", "::ffff:10.1.2.3", "64:ff9b::a01:203", "ff02::1%eth0"])
def test_ipv6_does_not_bypass_the_rules(site, world, address):
    result = site.call("online", "tcp", host=address, port=80)
    assert refused(result) or result == "EINVAL", result
    assert [packet for packet in world.arrived() if packet["family"] == 6 and not packet["to"].startswith("ff02")] == []


def test_instances_have_no_ipv6_address(site):
    assert [site.call(name, "own6") for name in ("online", "offline")] == [["lo"], ["lo"]]


def test_spoofed_source_address_is_dropped(site, world):
    before = len(reached(world, far.PUBLIC, 17, 7))
    for source in ("198.51.100.99", "198.18.200.1", "203.0.113.2", "198.18.0.1"):
        assert site.call("online", "udp", host=far.PUBLIC, port=7, **{"as": source}) in REFUSED.split("|") + ["timeout"]
    assert len(reached(world, far.PUBLIC, 17, 7)) == before


def test_instances_do_not_reach_each_other(site):
    answers = []
    listening = threading.Thread(target=lambda: answers.append(site.call("online", "listens", port=9000, seconds=4)))
    listening.start()
    (own,) = site.call("online", "own")
    base, last = own.rsplit(".", 1)
    # Every instance's address is near: they are given one after another.
    for number in range(max(0, int(last) - 12), min(255, int(last) + 12)):
        neighbour = "%s.%d" % (base, number)
        if neighbour != own:
            assert refused(site.call("online", "tcp", host=neighbour, port=9000)), neighbour
    listening.join()
    assert answers == ["nobody"]


def test_outside_hosts_cannot_reach_an_instance(site, world):
    answers = []
    listening = threading.Thread(target=lambda: answers.append((site.call("online", "own"), site.call("online", "listens", port=9001, seconds=4))))
    listening.start()
    world.run(world.host, "ip", "route", "add", "198.18.0.0/15", "via", "198.19.255.254")
    world.run(world.far, "ip", "route", "add", "198.18.0.0/15", "via", far.HOST)
    connect = "import socket; s = socket.socket(); s.settimeout(0.2); print(s.connect_ex(('198.18.1.%d', 9001)))"
    for number in range(0, 8):
        for place in (world.host, world.far):
            assert world.run(place, "python3", "-c", connect % number).strip() not in ("", "0")
    world.run(world.host, "ip", "route", "delete", "198.18.0.0/15", "via", "198.19.255.254")
    world.run(world.far, "ip", "route", "delete", "198.18.0.0/15", "via", far.HOST)
    listening.join()
    assert answers[0][1] == "nobody"


def test_functions_call_functions(site):
    keys = {"secret_id": site.server.secret_id, "secret_key": site.server.secret_key}
    answer = site.call("online", "invoke", target="online", event={"do": "resolve", "host": far.NAME}, **keys)
    assert json.loads(answer) == far.PUBLIC


def test_functions_cannot_reach_operator_endpoints(site):
    assert [site.call("online", "get", path=path) for path in ("/healthz", "/metrics", "/readyz")] == [200, 404, 404]


def test_a_function_without_public_net_reaches_virga_s_services_alone(site, world):
    before = len(world.arrived())
    for host in [far.PUBLIC, far.HOST] + far.FORBIDDEN:
        assert site.call("offline", "tcp", host=host, port=80) == "ENETUNREACH"
        assert site.call("offline", "udp", host=host, port=53) == "ENETUNREACH"
    assert site.call("offline", "loopback") == "connected"
    # The API, and the names under which clients know it and buckets.
    assert [site.call("offline", "get", path=path) for path in ("/healthz", "/metrics")] == [200, 404]
    for name in ("virga.internal", "scf.tencentcloudapi.com", "p-1.cos.ap-guangzhou.myqcloud.com", "p-1.cos.ap-guangzhou.tencentcos.cn"):
        address = site.call("offline", "resolve", host=name)
        assert address.startswith("198.18.0."), name
        assert site.call("offline", "tcp", host=address, port=443) == "connected", name
    assert len([packet for packet in world.arrived()[before:] if packet["family"] == 4]) == 0


def test_name_queries_of_a_function_without_public_net_stay_inside(site, world):
    assert site.call("online", "resolve", host=far.NAME) == far.PUBLIC
    secret = "data-in-a-name." + far.NAME
    assert site.call("offline", "resolve", host=secret) not in (far.PUBLIC, "timeout")
    assert site.call("online", "resolve", host="after." + far.NAME) == far.PUBLIC
    with open(world.queries) as queries:
        text = queries.read()
    assert "after." in text and "data-in-a-name" not in text


def test_a_function_without_public_net_reaches_no_instance_and_is_reached_by_none(site):
    for one, other in (("offline", "online"), ("online", "offline")):
        [address] = site.call(other, "own")
        answers = []
        listening = threading.Thread(target=lambda: answers.append(site.call(other, "listens", port=9001, seconds=3)))
        listening.start()
        assert refused(site.call(one, "tcp", host=address, port=9001))
        listening.join()
        assert answers == ["nobody"]


def process_with(address):
    """A process in the network namespace of the instance that has this address."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/net/fib_trie" % pid) as addresses, open("/proc/%s/net/dev" % pid) as devices:
                if " %s\n" % address in addresses.read() and " eth0:" in devices.read():
                    return pid
        except OSError:
            # It has ended meanwhile.
            pass
    raise AssertionError("no process has " + address)


def test_the_router_itself_holds_back_a_function_without_public_net(site, world):
    """Even if an instance had a route, which it cannot make."""
    before = len(world.arrived())
    [own] = site.call("offline", "own")
    inside = ["nsenter", "--net=/proc/%s/ns/net" % process_with(own)]
    world.run(world.host, *inside, "ip", "route", "add", "default", "via", "198.18.0.1", "dev", "eth0")
    connect = "import socket, errno; s = socket.socket(); s.settimeout(5); print(errno.errorcode[s.connect_ex(('%s', 80))])" % far.PUBLIC
    assert world.run(world.host, *inside, "python3", "-c", connect).strip() == "EHOSTUNREACH"
    world.run(world.host, *inside, "ip", "route", "delete", "default")
    assert len([packet for packet in world.arrived()[before:] if packet["family"] == 4]) == 0


def test_public_net_is_switched_by_the_api(site):
    site.deploy("switched")
    assert site.call("switched", "tcp", host=far.PUBLIC, port=80) == "connected"
    site.deploy("switched", "--public-net", "DISABLE")
    shown = json.loads(site.server.cli("show", "switched"))
    assert shown["PublicNetConfig"]["PublicNetStatus"] == "DISABLE"
    assert site.call("switched", "tcp", host=far.PUBLIC, port=80) == "ENETUNREACH"
    site.deploy("switched", "--public-net", "ENABLE")
    assert site.call("switched", "tcp", host=far.PUBLIC, port=80) == "connected"


def test_the_operator_opens_and_closes_destinations(world, tmp_path):
    flags = ["--network-allow", "10.1.2.0/24,172.16.5.5", "--network-deny", far.PUBLIC, "--dns", far.RESOLVER]
    site = Site(tmp_path, world, flags, "lists")
    site.deploy("online")
    assert site.call("online", "tcp", host="10.1.2.3", port=80, read=True) == "far\n"
    assert site.call("online", "tcp", host="172.16.5.5", port=80, read=True) == "far\n"
    assert refused(site.call("online", "tcp", host=far.PUBLIC, port=80))
    assert refused(site.call("online", "tcp", host="192.168.7.7", port=80))
    site.server.stop()


def test_rules_and_interfaces_are_removed_when_virga_ends(world, tmp_path):
    rules = lambda: world.run(world.host, "/usr/sbin/nft", "list", "tables")
    interfaces = lambda: world.run(world.host, "ip", "-brief", "link")
    site = Site(tmp_path, world, [], "gone")
    assert "virgasdkgone-up" in rules() and "virgasdkgone-up" in interfaces()
    # Ended without notice, it leaves rules for an interface that is gone; started again, it replaces them.
    site.server.kill()
    site.server.start()
    site.deploy("online")
    assert site.call("online", "tcp", host=far.PUBLIC, port=80) == "connected"
    site.server.stop()
    assert "gone" not in rules() and "gone" not in interfaces()
