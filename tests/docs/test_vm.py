"""The preparation by `make vm`, before its virtual machine starts."""

import os
import subprocess

PLACE = os.path.join(os.path.dirname(__file__), "..", "vm", "place")
INSIDE = """
set -euo pipefail
mount -t tmpfs tmp /tmp
"$1" "$2/clone" /tmp/some/clone /tmp/elsewhere/binary
cat /tmp/some/clone/crates/file /tmp/elsewhere/binary
test -x /tmp/elsewhere/binary
"""


def test_clone_below_tmp_has_the_same_path_inside(tmp_path):
    """The machine inside mounts a /tmp of its own over where the clone was put."""
    store = "/var/tmp/" + tmp_path.name + "-%d" % os.getpid()
    try:
        os.makedirs(store + "/clone/tmp/some/clone/crates")
        os.makedirs(store + "/clone/tmp/elsewhere")
        for name, text in (("some/clone/crates/file", "source "), ("elsewhere/binary", "binary")):
            with open(store + "/clone/tmp/" + name, "w") as file:
                file.write(text)
        os.chmod(store + "/clone/tmp/elsewhere/binary", 0o755)
        place = os.path.join(store, "place")
        subprocess.run(["install", "-m", "755", PLACE, place], check=True)
        command = ["unshare", "--mount", "bash", "-c", INSIDE, "inside", place, store]
        shown = subprocess.run(command, check=True, capture_output=True, text=True)
        assert shown.stdout == "source binary"
    finally:
        subprocess.run(["rm", "-rf", store], check=True)
