"""Packages for the conformance tests."""

import base64
import io
import zipfile


def package(source, name="index.py"):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        # Without a date of its own, so that the same source is the same package.
        archive.writestr(zipfile.ZipInfo(name), source, zipfile.ZIP_DEFLATED)
    return base64.b64encode(packed.getvalue()).decode()


FIRST = "def main_handler(event, context):\n    print('first', event)\n    return {'got': event, 'name': context['function_name']}\n"
SECOND = "import os\ndef main_handler(event, context):\n    return os.environ.get('COLOUR', 'none')\n"
FAILS = "def main_handler(event, context):\n    raise ValueError('on purpose')\n"
