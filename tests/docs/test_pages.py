"""Runs every command of the documentation as a reader would: in a terminal, one after another, page by page.

A block marked `console` holds commands after `$ ` (continued after `> `) and below each what it prints, where `…` stands
for anything. A command that fails, or prints something else, fails the page. `VIRGA` names the binary.
"""

import glob
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time

import pytest

from virga import Server

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
PAGES = ["README.md"] + sorted(os.path.relpath(page, ROOT) for page in glob.glob(os.path.join(ROOT, "docs", "*.md")))
LONGEST = 120


def commands(text):
    """Each command of a page, and the lines that it prints."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```", text, re.M | re.S):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append([line[2:], []])
            elif line.startswith("> ") or line == ">":
                found[-1][0] += "\n" + line[2:]
            else:
                found[-1][1].append(line)
    return found


def run(command, directory, environment):
    """Runs a command in a terminal of its own; gives its exit code and what the terminal showed."""
    master, slave = pty.openpty()
    process = subprocess.Popen(["bash", "-c", command], cwd=directory, env=environment, stdin=slave, stdout=slave, stderr=slave,
                               start_new_session=True)
    os.close(slave)
    shown = b""
    begun = time.time()
    while True:
        assert time.time() - begun < LONGEST, "%r does not end; so far: %r" % (command, shown)
        if select.select([master], [], [], 0.1)[0]:
            try:
                part = os.read(master, 65536)
            except OSError:  # The terminal's last user has gone.
                break
            if not part:
                break
            shown += part
    os.close(master)
    return process.wait(), shown.decode("utf-8", "replace").replace("\r\n", "\n")


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page_print_the_shown_output(page, tmp_path):
    listed = commands(open(os.path.join(ROOT, page)).read())
    if not listed:
        return
    token, sources = "a-storage-elsewhere", tmp_path / "sources.toml"
    sources.write_text('[minio]\ntoken = "%s"\n' % token)
    # Dependencies come over the host's network, which may need a proxy, from the index that the tests are configured with.
    flags = ("--network", "internal", "--install-network", "host", "--tls-listen", "127.0.0.1:0", "--event-sources", str(sources))
    if os.environ.get("PIP_INDEX_URL"):
        flags += ("--install-index", os.environ["PIP_INDEX_URL"])
    server = Server(tmp_path / "data", "docs", flags)
    # Pages show failing events.
    server.expect("an event failed permanently")
    work = tmp_path / "work"
    shutil.copytree(os.path.join(ROOT, "examples"), work / "examples")
    path = [os.path.dirname(os.environ["VIRGA"]), os.path.dirname(sys.executable), os.environ["PATH"]]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VIRGA")}
    environment.update(server.environment(), PATH=":".join(path), HOME=str(tmp_path), TERM="dumb", COLUMNS="120",
                       VIRGA_DATA=str(tmp_path / "data"), VIRGA_ENDPOINT="http://" + server.address, VIRGA_TLS=server.tls,
                       VIRGA_BUCKETS="http://" + server.buckets, TOKEN=token)
    try:
        for command, expected in listed:
            code, shown = run(command, work, environment)
            assert code == 0, "%s\n%s" % (command, shown)
            parts = ("\n".join(expected)).strip().split("…")
            # How wide a column is depends on what else is in it.
            pattern = ".*?".join(re.sub(r"(\\ )+", " +", re.escape(part)) for part in parts)
            assert re.search(pattern, shown, re.S), "%s\nprinted\n%s\nand not\n%s" % (command, shown, "\n".join(expected))
    finally:
        server.stop()


def test_pages_have_commands():
    assert sum(len(commands(open(os.path.join(ROOT, page)).read())) for page in PAGES) > 20
