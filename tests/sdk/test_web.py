"""Web functions: Flask, and FastAPI under uvicorn, as their users write them, with their packages vendored in the zip."""

import base64
import importlib.metadata
import importlib.util
import io
import json
import os
import re
import sys
import threading
import urllib.request
import zipfile

import pytest

from api import Api

MISSING = [name for name in ("flask", "fastapi", "uvicorn", "websockets") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason="%s: not installed; pip install -r tests/sdk/requirements.txt" % MISSING)

FLASK = """
from flask import Flask, Response, jsonify, request
app = Flask(__name__)

@app.route("/hello/<name>", methods=["GET", "POST"])
def hello(name):
    return jsonify(name=name, sent=request.get_json(silent=True), asked=request.args, by=request.headers["X-Scf-Name"])

@app.route("/stream")
def stream():
    return Response(("data: %d\\n\\n" % n for n in range(3)), mimetype="text/event-stream")

app.run(host="0.0.0.0", port=9000)
"""

FASTAPI = """
import asyncio
from fastapi import FastAPI, WebSocket
from fastapi.responses import StreamingResponse
app = FastAPI()
opened = asyncio.Event()

@app.get("/items/{item}")
async def item(item: int, q: str = ""):
    return {"item": item, "q": q}

@app.get("/ticks")
async def ticks():
    async def all():
        yield "data: first\\n\\n"
        await opened.wait()
        yield "data: last\\n\\n"
    return StreamingResponse(all(), media_type="text/event-stream")

@app.get("/open")
async def release():
    opened.set()
    return "open"

@app.websocket("/ws")
async def ws(socket: WebSocket):
    await socket.accept()
    while True:
        await socket.send_text((await socket.receive_text()).upper())
"""


def needed_by(names):
    """The distributions that some need, those included."""
    found, open_ = {}, list(names)
    while open_:
        name = re.sub(r"[-_.]+", "-", open_.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        for line in found[name].requires or []:
            if "extra ==" not in line:
                open_.append(re.match(r"[A-Za-z0-9._-]+", line).group())
    return found.values()


def web(script, start, names):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        info = zipfile.ZipInfo("scf_bootstrap")
        info.external_attr = 0o755 << 16
        archive.writestr(info, "#!/bin/bash\nexport PYTHONPATH=/var/user\nexec %s %s\n" % (os.path.realpath(sys.executable), start))
        archive.writestr("app.py", script)
        for distribution in needed_by(names):
            for file in distribution.files or []:
                path = str(file)
                if not path.startswith("..") and "__pycache__" not in path:
                    archive.write(str(file.locate()), path)
    return {"ZipFile": base64.b64encode(packed.getvalue()).decode()}


@pytest.fixture(scope="module")
def api(server):
    return Api(server)


def create(api, server, name, code, **more):
    api("CreateFunction", FunctionName=name, Type="HTTP", Runtime="Python3.9", MemorySize=512, Timeout=30, InitTimeout=60, Code=code, **more)
    made = api("CreateTrigger", FunctionName=name, TriggerName="url", Type="http", TriggerDesc=json.dumps({"AuthType": "NONE"}))
    return "%s/url/%s" % (server.address, made.TriggerInfo.TriggerName)


def test_flask(api, server):
    base = create(api, server, "flask", web(FLASK, "app.py", ["flask"]))
    request = urllib.request.Request("http://%s/hello/rain?x=1" % base, data=b'{"mm": 7}', headers={"Content-Type": "application/json"})
    answer = json.loads(urllib.request.urlopen(request).read())
    assert answer == {"name": "rain", "sent": {"mm": 7}, "asked": {"x": "1"}, "by": "flask"}
    assert urllib.request.urlopen("http://%s/stream" % base).read() == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"


def test_fastapi_streams_and_speaks_websocket(api, server):
    code = web(FASTAPI, "-m uvicorn app:app --host 0.0.0.0 --port 9000", ["fastapi", "uvicorn", "websockets"])
    base = create(api, server, "fastapi", code, InstanceConcurrencyConfig={"DynamicEnabled": "FALSE", "MaxConcurrency": 20},
                  ProtocolType="WS", ProtocolParams={"WSParams": {"IdleTimeOut": 20}})
    assert json.loads(urllib.request.urlopen("http://%s/items/7?q=a" % base).read()) == {"item": 7, "q": "a"}
    with urllib.request.urlopen("http://%s/ticks" % base) as ticks:
        assert ticks.readline() == b"data: first\n"
        # The reply goes on; the same instance serves others.
        threads = [threading.Thread(target=lambda: urllib.request.urlopen("http://%s/items/1" % base).read()) for _ in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert json.loads(urllib.request.urlopen("http://%s/open" % base).read()) == "open"
        assert ticks.read() == b"\ndata: last\n\n"
    from websockets.sync.client import connect
    with connect("ws://%s/ws" % base, proxy=None) as socket:
        for text in ("first", "second"):
            socket.send(text)
            assert socket.recv(timeout=20) == text.upper()
    shown = api("GetFunction", FunctionName="fastapi")
    assert (shown.Type, shown.InstanceConcurrencyConfig.MaxConcurrency, shown.ProtocolParams.WSParams.IdleTimeOut) == ("HTTP", 20, 20)
