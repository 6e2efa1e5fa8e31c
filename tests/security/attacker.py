"""A hostile function: each attempt tries one thing that an instance must not be able to do, and reports the result.

The tests import this file, too, for the names of the attempts and their expected results. An attempt's result is the name of the
error that refused it, or what it got.
"""

import ctypes
import errno
import os
import re
import signal
import socket
import struct
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
ATTEMPTS = {}
HELPERS = {}
DENIED = "EPERM|EACCES|ENOENT|EROFS"


def attempt(expected):
    """Marks an attempt; `expected` is a pattern for all of its result."""

    def mark(function):
        ATTEMPTS[function.__name__] = (function, expected)
        return function

    return mark


def main_handler(event, context):
    function = HELPERS.get(event["attempt"]) or ATTEMPTS[event["attempt"]][0]
    try:
        return str(function(event))
    except OSError as error:
        return errno.errorcode.get(error.errno, "timeout" if isinstance(error, socket.timeout) else str(error))


def call(number, *arguments):
    """A system call by its number: the error's name, or its result."""
    ctypes.set_errno(0)
    LIBC.syscall.restype = ctypes.c_long
    result = LIBC.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    return errno.errorcode[ctypes.get_errno()] if result == -1 else "got %d" % result


def read(path, count=200):
    with open(path, "rb") as file:
        return file.read(count)


def write(path, text="x"):
    with open(path, "w") as file:
        file.write(text)
    return "written"


# --- the host's files


@attempt("ENOENT|EACCES")
def read_shadow(event):
    return read("/etc/shadow")


@attempt("root,nobody,qcloud")
def users_of_the_host(event):
    return ",".join(line.split(":")[0] for line in open("/etc/passwd"))


@attempt(DENIED)
def read_the_credentials(event):
    return read(event["data"] + "/credentials.json")


@attempt(DENIED)
def list_the_data_directory(event):
    return os.listdir(event["data"])


@attempt(DENIED)
def root_of_the_first_process(event):
    return os.listdir("/proc/1/root/")


@attempt(DENIED)
def environment_of_the_first_process(event):
    return read("/proc/1/environ")


@attempt(DENIED)
def memory_of_the_first_process(event):
    return read("/proc/1/mem")


@attempt(DENIED)
def descriptors_of_the_first_process(event):
    return os.listdir("/proc/1/fd")


@attempt(DENIED)
def kernel_memory(event):
    return read("/proc/kcore")


@attempt(DENIED)
def kernel_log(event):
    return read("/proc/kmsg")


@attempt(DENIED)
def physical_memory(event):
    return read("/dev/mem")


@attempt("fd,full,null,random,shm,stderr,stdin,stdout,urandom,zero")
def devices(event):
    return ",".join(sorted(os.listdir("/dev")))


@attempt("ENOENT")
def system_files(event):
    return os.listdir("/sys")


@attempt(DENIED)
def set_a_kernel_parameter(event):
    return write("/proc/sys/kernel/core_pattern", "|/tmp/x")


@attempt(DENIED)
def pull_the_alarm_cord(event):
    return write("/proc/sysrq-trigger", "h")


@attempt("none")
def files_of_other_users_that_can_be_written(event):
    found = []
    for root in ("/etc", "/usr", "/var", "/opt", "/home", "/lib", "/dev"):
        for directory, _, files in os.walk(root):
            if os.access(directory, os.W_OK):
                found.append(directory)
    return found or "none"


# --- its own code, and the runtime's


@attempt("EROFS|EACCES")
def overwrite_its_code(event):
    return write("/var/user/index.py")


@attempt("EROFS|EACCES")
def add_to_its_code(event):
    return write("/var/user/added.py")


@attempt("EROFS|EPERM")
def change_the_mode_of_its_code(event):
    return os.chmod("/var/user/index.py", 0o777)


@attempt("EROFS|EPERM|EACCES")
def remove_its_code(event):
    return os.unlink("/var/user/index.py")


@attempt("EXDEV|EPERM|EACCES")
def link_its_code_outside(event):
    return os.link("/var/user/index.py", "/tmp/index.py")


@attempt("EROFS|EACCES")
def overwrite_the_runtime(event):
    return write("/var/runtime/virga/shim.py")


@attempt("EROFS|EACCES")
def write_to_the_root(event):
    return write("/x")


@attempt("EROFS|EACCES")
def write_to_the_system(event):
    return write("/usr/bin/x")


@attempt("EROFS|EACCES")
def write_to_the_configuration(event):
    return write("/etc/x")


# --- mounts and roots


@attempt("EPERM")
def mount_a_file_system(event):
    return call(165, b"x", b"/tmp", b"tmpfs", 0, 0)


@attempt("EPERM")
def mount_the_root_writable(event):
    return call(165, 0, b"/", 0, 32 | 4096, 0)


@attempt("EPERM")
def mount_control_groups(event):
    return call(165, b"x", b"/tmp", b"cgroup2", 0, 0)


@attempt("EPERM")
def unmount(event):
    return call(166, b"/proc", 2)


@attempt("EPERM")
def change_the_root(event):
    return call(161, b"/tmp")


@attempt("EPERM")
def pivot_the_root(event):
    return call(155, b"/tmp", b"/tmp")


@attempt("EPERM")
def clone_a_mount(event):
    return call(428, -100, b"/", 1)


@attempt("EPERM")
def move_a_mount(event):
    return call(429, -100, b"/var/user", -100, b"/tmp", 0)


@attempt("EPERM")
def make_a_disk(event):
    return os.mknod("/tmp/disk", 0o60600, os.makedev(8, 0))


@attempt("EPERM")
def open_a_file_by_its_handle(event):
    return call(304, -100, b"x" * 16, 0)


@attempt("EPERM")
def ask_for_a_handle(event):
    return call(303, -100, b"/", ctypes.create_string_buffer(64), ctypes.create_string_buffer(8), 0)


@attempt("no setuid here")
def keep_a_setuid_program(event):
    write("/tmp/program")
    os.chmod("/tmp/program", 0o4755)
    flags = [line.split()[3] for line in open("/proc/self/mounts") if line.split()[1] == "/tmp"][0]
    return "no setuid here" if "nosuid" in flags.split(",") and "nodev" in flags.split(",") else flags


@attempt("still nobody")
def run_a_setuid_program(event):
    import subprocess

    for program in ("/usr/bin/su", "/bin/su", "/usr/bin/newgrp", "/usr/bin/passwd", "/usr/bin/mount"):
        if os.path.exists(program) and os.stat(program).st_mode & 0o4000:
            # A setuid program that starts at all would say so in its own /proc entry.
            child = subprocess.Popen([program, "--help"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            child.wait()
    flags = [line.split()[3] for line in open("/proc/self/mounts") if line.split()[1] == "/usr"][0]
    status = open("/proc/self/status").read()
    return "still nobody" if "nosuid" in flags.split(",") or "NoNewPrivs:\t1" in status else flags


# --- namespaces


@attempt("EPERM")
def unshare_users(event):
    return call(272, 0x10000000)


@attempt("EPERM")
def unshare_mounts(event):
    return call(272, 0x00020000)


@attempt("EPERM")
def unshare_the_network(event):
    return call(272, 0x40000000)


@attempt("EPERM")
def clone_into_a_user_namespace(event):
    return call(56, 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0)


@attempt("ENOSYS")
def clone_with_hidden_flags(event):
    return call(435, struct.pack("<11Q", 0x10000000, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, 0), 88)


@attempt("EPERM|EACCES")
def join_another_namespace(event):
    namespace = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        return call(308, namespace, 0)
    finally:
        os.close(namespace)


@attempt("cmdline:,kallsyms:,modules:|cmdline:,kallsyms:,modules:ENOENT")
def read_kernel_information(event):
    found = []
    for name in ("cmdline", "kallsyms", "modules"):
        try:
            found.append("%s:%s" % (name, open("/proc/" + name).read(100)))
        except OSError as error:
            found.append("%s:%s" % (name, errno.errorcode[error.errno]))
    return ",".join(found)


# --- other processes


@attempt("1")
def processes_that_it_sees(event):
    return len([name for name in os.listdir("/proc") if name.isdigit()])


@attempt("EPERM")
def trace_the_first_process(event):
    return call(101, 16, 1, 0, 0)


@attempt("EPERM")
def kill_the_first_process(event):
    return os.kill(1, signal.SIGKILL)


@attempt("ESRCH|EPERM")
def signal_everyone(event):
    # Everyone but itself and the init, which are all that there are; a neighbour must not be among them.
    return os.kill(-1, 0)


@attempt("EPERM")
def read_the_memory_of_another(event):
    return call(310, 1, 0, 0, 0, 0, 0)


@attempt("EPERM")
def take_the_descriptor_of_another(event):
    first = os.pidfd_open(1)
    try:
        return call(438, first, 0, 0)
    finally:
        os.close(first)


@attempt("EPERM")
def compare_with_another(event):
    return call(312, 1, os.getpid(), 0, 0, 0)


@attempt("0,1,2,3,4,6")  # 6 is the copy of the start mark that Python's mmap keeps
def descriptors_that_it_has(event):
    listed = os.listdir("/proc/self/fd")
    return ",".join(sorted(fd for fd in listed if os.path.exists("/proc/self/fd/" + fd)))


# --- privileges


@attempt("EPERM")
def become_root(event):
    return os.setuid(0)


@attempt("EPERM")
def become_another(event):
    return os.setresuid(os.getuid() + 1, os.getuid() + 1, os.getuid() + 1)


@attempt("EPERM")
def join_a_group(event):
    return os.setgroups([0])


@attempt("EPERM")
def take_capabilities(event):
    header = struct.pack("<Ii", 0x20080522, 0)
    return call(126, header, struct.pack("<6I", *[0xFFFFFFFF] * 6))


@attempt("0{16}")
def capabilities_that_it_has(event):
    status = open("/proc/self/status").read()
    return "".join(sorted(set(re.findall(r"Cap\w+:\s+(\w+)", status))))


@attempt("EINVAL")
def gain_new_privileges(event):
    return call(157, 38, 0, 0, 0, 0)


@attempt("EPERM|ValueError")
def raise_its_limit_of_files(event):
    import resource

    try:
        return resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 20, 1 << 20))
    except ValueError:
        return "ValueError"


@attempt("EACCES|EPERM")
def run_before_others(event):
    return os.setpriority(os.PRIO_PROCESS, 0, -20)


@attempt("EPERM")
def run_in_real_time(event):
    return os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99))


@attempt("EPERM")
def switch_protections_of_memory_off(event):
    return call(135, 0x0040000)


@attempt("2")
def filters_that_it_runs_under(event):
    return re.search(r"Seccomp:\s+(\d)", open("/proc/self/status").read()).group(1)


# --- the kernel


def refused_call(name, number, *arguments, expected="EPERM"):
    def run(event):
        return call(number, *arguments)

    run.__name__ = name
    attempt(expected)(run)


ROOM = ctypes.create_string_buffer(256)
refused_call("load_a_kernel_program", 321, 0, ROOM, 64)
refused_call("watch_the_processor", 298, ROOM, 0, -1, -1, 0)
refused_call("handle_page_faults", 323, 0)
refused_call("make_a_ring", 425, 8, ROOM)
refused_call("enter_a_ring", 426, 0, 0, 0, 0, 0, 0)
refused_call("add_a_key", 248, b"user", b"x", b"x", 1, -3)
refused_call("ask_for_a_key", 249, b"user", b"x", 0, 0)
refused_call("control_keys", 250, 0, -3, 0)
refused_call("load_another_kernel", 246, 0, 0, 0, 0)
refused_call("load_a_module", 175, ROOM, 16, b"")
refused_call("load_a_module_from_a_file", 313, 0, b"", 0)
refused_call("remove_a_module", 176, b"x", 0)
refused_call("reboot", 169, 0xFEE1DEAD, 672274793, 0x1234567, 0)
refused_call("swap_on", 167, b"/tmp/x", 0)
refused_call("account_for_processes", 163, b"/tmp/x")
refused_call("set_quotas", 179, 0, 0, 0, 0)
refused_call("read_the_log_of_the_kernel", 103, 3, ROOM, 200)
refused_call("set_the_time", 164, ROOM, 0)
refused_call("set_the_clock", 227, 0, ROOM)
refused_call("adjust_the_clock", 159, ROOM)
refused_call("reach_for_ports", 172, 3)
refused_call("change_the_segments", 154, 0, 0, 0)
refused_call("watch_all_files", 300, 0, 0)
refused_call("move_the_pages_of_others", 279, 1, 0, 0, 0, 0, 0)
refused_call("name_the_host", 170, b"x", 1)
refused_call("sync_every_disk", 162, expected="ENOSYS")
refused_call("query_the_page_cache", 451, 0, ROOM, ROOM, 0, expected="ENOSYS")
refused_call("call_missing_system_calls", 9999, expected="ENOSYS")
refused_call("submit_disk_operations", 206, 1, ROOM, expected="ENOSYS")
refused_call("call_by_the_other_numbering", 0x40000000 | 39, expected="ENOSYS")


@attempt("ENOTSUP")
def probe_the_page_cache_of_others(event):
    """Of a call that does not exist the C library says that it supports no flags."""
    file = os.open("/usr/bin/env", os.O_RDONLY)
    try:
        os.preadv(file, [bytearray(64)], 0, 8)  # RWF_NOWAIT
        return "read"
    finally:
        os.close(file)


@attempt("nothing new")
def ask_which_pages_others_have_read(event):
    """Of files that it may not write, `mincore` says of every page that it is there."""
    seen = set()
    for directory, _, names in os.walk("/usr/share"):
        for name in names[:20]:
            path = os.path.join(directory, name)
            if os.path.islink(path) or os.path.getsize(path) < 65536:
                continue
            LIBC.mmap.restype = ctypes.c_void_p
            pages = (ctypes.c_ubyte * 16)()
            with open(path, "rb") as file:
                address = LIBC.mmap(None, ctypes.c_size_t(65536), 1, 1, file.fileno(), ctypes.c_long(0))
            LIBC.mincore(ctypes.c_void_p(address), ctypes.c_size_t(65536), pages)
            LIBC.munmap(ctypes.c_void_p(address), ctypes.c_size_t(65536))
            seen |= {page & 1 for page in pages}
        if len(seen) > 1:
            return "leaked"
    return "nothing new"


@attempt("killed by signal 31")
def call_as_a_32_bit_program(event):
    import mmap

    # mov eax, 20; int 0x80; ret
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    child = os.fork()
    if child == 0:
        ctypes.CFUNCTYPE(ctypes.c_int)(address)()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    return "killed by signal %d" % os.WTERMSIG(status) if os.WIFSIGNALED(status) else "it ran"


# --- the network


def connect(address, family=socket.AF_INET):
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        probe.connect(address)
        return "connected"


UNREACHABLE = "ENETUNREACH|ECONNREFUSED|EHOSTUNREACH"


@attempt("ECONNREFUSED")
def reach_the_api_on_the_hosts_loopback(event):
    host, port = event["api"].split(":")
    return connect((host, int(port)))


@attempt(UNREACHABLE)
def reach_the_metadata_service(event):
    return connect(("169.254.169.254", 80))


@attempt(UNREACHABLE)
def reach_a_private_address(event):
    return connect(("10.0.0.1", 80))


@attempt(UNREACHABLE)
def reach_the_host(event):
    return connect((event["host"], 22))


@attempt("ECONNREFUSED")
def reach_an_abstract_socket_of_the_host(event):
    return connect("\0" + event["abstract"], socket.AF_UNIX)


@attempt("EPERM")
def open_a_raw_socket(event):
    return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)


@attempt("EPERM")
def open_a_packet_socket(event):
    return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)


@attempt("EPERM")
def open_a_socket_to_the_hypervisor(event):
    return socket.socket(40, socket.SOCK_STREAM)


@attempt("EPERM")
def open_a_socket_to_the_kernels_ciphers(event):
    return socket.socket(38, socket.SOCK_SEQPACKET)


def refused_socket(name, family, kind, protocol, maker=socket.socket):
    def run(event):
        maker(family, kind, protocol)
        return "opened"

    run.__name__ = name
    attempt("EPERM")(run)


INET, INET6, NETLINK, UNIX = 2, 10, 16, 1
STREAM, DATAGRAM, RAW, PACKETS = 1, 2, 3, 5
FLAGS = socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
for family, name in ((INET, "4"), (INET6, "6")):
    refused_socket("open_a_multipath_socket_" + name, family, STREAM, 262)
    refused_socket("open_a_multipath_socket_with_flags_" + name, family, STREAM | FLAGS, 262)
    refused_socket("open_a_light_datagram_socket_" + name, family, DATAGRAM, 136)
    refused_socket("open_an_association_" + name, family, STREAM, 132)
    refused_socket("open_an_association_of_packets_" + name, family, PACKETS, 132)
    refused_socket("open_a_congested_datagram_socket_" + name, family, 6, 33)
    refused_socket("open_a_tunnel_" + name, family, DATAGRAM, 115)
    refused_socket("open_a_shared_memory_socket_" + name, family, STREAM, 256)
    refused_socket("open_a_socket_for_echoes_" + name, family, DATAGRAM, 1 if family == INET else 58)
    refused_socket("open_a_raw_socket_with_flags_" + name, family, RAW | FLAGS, 255)
    refused_socket("open_a_socket_of_no_type_" + name, family, 0, 0)
    refused_socket("open_an_old_packet_socket_" + name, family, 10, 3)
for protocol, name in enumerate(["sockets_before", "kept_back", "firewall", "diagnosis", "log", "transforms", "labels", "disks", "names_of_routes",
                                 "audit", "forwarding", "connections", "netfilter", "addresses_6", "network_of_disks", "events_of_devices",
                                 "generic", "kept_back_17", "scsi", "encrypted_files", "remote_memory", "ciphers", "smc"]):
    if protocol:
        refused_socket("open_a_netlink_socket_for_" + name, NETLINK, RAW, protocol)
        refused_socket("open_a_netlink_socket_of_datagrams_for_" + name, NETLINK, DATAGRAM | FLAGS, protocol)
refused_socket("open_a_pair_of_associations", INET, STREAM, 132, socket.socketpair)
refused_socket("open_a_pair_across_a_cluster", 30, STREAM, 0, socket.socketpair)
refused_socket("open_a_raw_local_socket", UNIX, RAW, 0)


@attempt("all opened")
def open_the_sockets_that_programs_need(event):
    for family in (INET, INET6):
        for kind, protocol in ((STREAM, 6), (DATAGRAM, 17)):
            for known in (0, protocol):
                socket.socket(family, kind, known).close()
                socket.socket(family, kind | FLAGS, known).close()
    for kind in (STREAM, DATAGRAM, PACKETS):
        socket.socket(UNIX, kind, 0).close()
        for end in socket.socketpair(UNIX, kind | FLAGS):
            end.close()
    for kind in (RAW, DATAGRAM):
        socket.socket(NETLINK, kind, 0).close()
    return "all opened"


def set_option(kind, level, option, value):
    with socket.socket(INET, kind) as probe:
        probe.setsockopt(level, option, value)
        return "set"


@attempt("EPERM")
def put_another_protocol_over_a_connection(event):
    return set_option(STREAM, 6, 31, b"tls")


@attempt("EPERM")
def put_a_filter_into_the_kernel(event):
    accept = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0xFFFFFFFF))
    return set_option(DATAGRAM, 1, 26, struct.pack("HxxxxxxQ", 1, ctypes.addressof(accept)))


@attempt("EPERM")
def take_tunnels_apart(event):
    return set_option(DATAGRAM, 17, 100, struct.pack("i", 2))


# --- memory of the kernel's; each holds as much as it can, in a function of 128 MB

MOST = 48 << 20


def held_by(sockets):
    """The memory that the kernel reports for them."""
    total = 0
    for one in sockets:
        received, _, sent, _, _, queued = struct.unpack("6I", one.getsockopt(1, 55, 24))
        total += received + max(sent, queued)
    return total


def verdict(sockets):
    total = held_by(sockets)
    for one in sockets:
        one.close()
    return "bounded" if total <= MOST else "held %d MB" % (total >> 20)


def fill(sender, size):
    try:
        for _ in range(4096):
            sender.send(b"x" * size)
    except OSError:  # Full.
        pass


def large(one):
    one.setblocking(False)
    one.setsockopt(1, 7, 8 << 20)
    one.setsockopt(1, 8, 8 << 20)
    return one


@attempt("bounded")
def hold_memory_in_connections(event):
    listening = socket.socket()
    listening.setsockopt(1, 8, 8 << 20)
    listening.bind(("127.0.0.1", 0))
    listening.listen(8)
    sockets = [listening]
    for _ in range(400):
        sender = socket.create_connection(listening.getsockname())
        sockets += [sender, listening.accept()[0]]
        fill(large(sender), 1 << 16)
    return verdict(sockets)


@attempt("bounded")
def hold_memory_in_datagrams(event):
    sockets = []
    for _ in range(400):
        receiver = large(socket.socket(INET, DATAGRAM))
        receiver.bind(("127.0.0.1", 0))
        with socket.socket(INET, DATAGRAM) as sender:
            sender.connect(receiver.getsockname())
            for _ in range(16):
                sender.send(b"x" * 60000)
        sockets.append(receiver)
    return verdict(sockets)


@attempt("bounded")
def hold_memory_in_netlink(event):
    """The kernel's answers to questions for an interface, never read: sockets of many processes together."""
    question = struct.pack("IHHIIBxHiII", 32, 18, 1, 1, 0, 0, 0, 1, 0, 0)
    total, most = 0, 160 << 20
    ends, children = [], []
    for _ in range(8):
        end_read, end_write = os.pipe()
        children.append(os.fork())
        if children[-1] == 0:
            sockets = []
            try:
                for _ in range(40):
                    sockets.append(large(socket.socket(NETLINK, RAW, 0)))
                    for _ in range(1200):
                        sockets[-1].send(question)
            except OSError:
                pass
            os.write(end_write, b"%d" % held_by(sockets))
            signal.pause()
        os.close(end_write)
        ends.append(end_read)
    try:
        total = sum(int(os.read(end, 32)) for end in ends)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    return "bounded" if total <= most else "held %d MB" % (total >> 20)


@attempt("all listed")
def list_interfaces_again_and_again(event):
    for _ in range(200):
        if "lo" not in [name for _, name in socket.if_nameindex()]:
            return "not listed"
    return "all listed"


@attempt("lo,eth0")
def interfaces(event):
    return ",".join(name for _, name in socket.if_nameindex())


@attempt("EPERM")
def add_an_interface(event):
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return fcntl.ioctl(probe, 0x8914, struct.pack("16sH14s", b"lo", 0, b""))  # Take loopback down.


@attempt("EACCES")
def make_a_message_queue(event):
    if LIBC.mq_open(b"/secret", 0o102, 0o666, None) >= 0:
        return "made"
    return errno.errorcode[ctypes.get_errno()]


# --- neighbours; the test runs each in two instances


@attempt("left: True, found: False")
def leave_a_file_for_a_neighbour(event):
    if event["side"] == "leave":
        write("/tmp/secret", "s")
    return "left: %s, found: %s" % (event["side"] == "leave", event["side"] == "find" and os.path.exists("/tmp/secret"))


@attempt("left: True, found: False")
def leave_memory_for_a_neighbour(event):
    found = LIBC.shmget(0x5EC2E7, 4096, 0o1666 if event["side"] == "leave" else 0o666)
    return "left: %s, found: %s" % (event["side"] == "leave" and found >= 0, event["side"] == "find" and found >= 0)


@attempt("left: True, found: False")
def leave_a_socket_for_a_neighbour(event):
    global kept
    kept = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if event["side"] == "leave":
        kept.bind("\0secret")
        kept.listen(1)
        return "left: True, found: False"
    try:
        kept.connect("\0secret")
        return "left: False, found: True"
    except OSError:
        return "left: False, found: False"


@attempt("left: True, found: False")
def leave_a_variable_for_a_neighbour(event):
    if event["side"] == "leave":
        os.environ["SECRET"] = "s"
        sys.modules["secret"] = sys
    found = "SECRET" in os.environ or "secret" in sys.modules
    return "left: %s, found: %s" % (event["side"] == "leave" and found, event["side"] == "find" and found)


# Files that instances share: of the system, of the interpreter, of the runtime, and the code of two functions of one package.
SHARED = ["/usr", "/usr/bin", "/usr/bin/env", os.__file__, os.path.dirname(os.__file__), sys.executable, "/etc", "/etc/passwd", "/etc/services",
          "/etc/ssl/certs", "/etc/ld.so.cache", "/var/user", "/var/user/index.py", "/var/runtime/virga", "/var/runtime/virga/shim.py", "/proc/version",
          "/proc/sys/kernel/osrelease"]
# An ordinary user's virga cannot make devices, and shows the host's.
DEVICES = ["/dev", "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"]
KEPT = []


def shared(event):
    # The program that it runs in is its zygote's, which is its account's.
    more = (DEVICES if event["root"] else []) + (["/proc/self/exe"] if event.get("stranger") else [])
    return [path for path in SHARED + more if os.path.exists(path)]


def leave_and_find(event, leave, find):
    """Does one thing on each shared file, in the one instance, and looks for it in the other."""
    for path in shared(event):
        fd = os.open(path, os.O_RDONLY)
        KEPT.append(fd)
        if event["side"] == "leave":
            leave(fd)
        elif find(fd):
            return "left: False, found: True, %s" % path
    return "left: %s, found: False" % (event["side"] == "leave")


@attempt("left: True, found: False")
def leave_a_lock_for_a_neighbour(event):
    import fcntl

    def is_locked(fd):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True

    return leave_and_find(event, is_locked, is_locked)


@attempt("left: True, found: False")
def leave_a_lock_of_a_range_for_a_neighbour(event):
    import fcntl

    def find(fd):
        asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)
        return struct.unpack("hhqqi4x", fcntl.fcntl(fd, fcntl.F_GETLK, asked))[0] != fcntl.F_UNLCK

    return leave_and_find(event, lambda fd: fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB, 7, 7), find)


@attempt("left: True, found: False")
def leave_a_lock_of_an_open_file_for_a_neighbour(event):
    import fcntl

    def ask(fd, command, kind):
        return struct.unpack("hhqqi4x", fcntl.fcntl(fd, command, struct.pack("hhqqi4x", kind, 0, 7, 7, 0)))[0]

    return leave_and_find(event, lambda fd: ask(fd, 37, fcntl.F_RDLCK), lambda fd: ask(fd, 36, fcntl.F_WRLCK) != fcntl.F_UNLCK)


def watch_activity_of_others(event):
    """Not an attempt by itself: the test makes a neighbour open everything between the two calls."""
    if event["step"] == "use":
        for path in shared(event):
            fd = os.open(path, os.O_RDONLY)
            if os.path.isfile(path):
                os.read(fd, 1)
            os.close(fd)
        return "used"
    if event["step"] == "watch":
        KEPT.append(LIBC.inotify_init1(os.O_NONBLOCK))
        watched = [LIBC.inotify_add_watch(KEPT[-1], path.encode(), 0xFFF) for path in shared(event)]
        return "watching" if KEPT[-1] < 0 or max(watched) > 0 else "cannot watch"
    try:
        seen = os.read(KEPT[-1], 4096) if KEPT[-1] >= 0 else b""
    except BlockingIOError:
        seen = b""
    return "nothing" if not seen else "something of watch %d" % struct.unpack_from("i", seen)[0]


HELPERS["watch_activity_of_others"] = watch_activity_of_others


@attempt("kept: True")
def locks_of_its_own_files(event):
    """Locks still work inside an instance: two of its processes exclude each other."""
    import fcntl

    with open("/tmp/lock", "w") as one, open("/tmp/lock", "w") as other:
        fcntl.flock(one, fcntl.LOCK_EX)
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return "kept: False"
        except BlockingIOError:
            return "kept: True"


@attempt("b'x'")
def watches_of_its_own_files(event):
    watching = LIBC.inotify_init1(os.O_NONBLOCK)
    LIBC.inotify_add_watch(watching, b"/tmp", 0x100)
    write("/tmp/x")
    return os.read(watching, 4096)[16:].strip(b"\0")
