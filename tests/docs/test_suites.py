"""The page's table of third-party test suites matches their stored results."""

import os
import subprocess
import sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")


def test_the_table_is_made_of_the_results():
    done = subprocess.run([sys.executable, os.path.join(ROOT, "suites", "table.py"), "--check"], stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr.decode()
