"""The handler that virga and every peer run."""

import json


def answer(event):
    return {"hello": event.get("name", "world")}


def main_handler(event, context):
    return answer(event)


def framework(request):  # Entry point for functions-framework.
    return json.dumps(answer(request.get_json()))


async def application(scope, receive, send):  # Plain ASGI, for uvicorn.
    if scope["type"] != "http":
        return
    message = await receive()
    body = json.dumps(answer(json.loads(message["body"]))).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
