"""A function like a user's, which the shim loads once before it waits for a real one."""

import json
import logging
import os
import time

logger = logging.getLogger(__name__)


class Greeter:
    """Something to define."""

    def __init__(self, name):
        self.name = name

    def greet(self):
        return "Hello, {}!".format(self.name)


def main_handler(event, context):
    try:
        text = json.dumps({"event": event, "at": int(time.time()), "greeting": Greeter("world").greet()})
        return {"text": text, "environment": len(os.environ)}
    except ValueError as error:
        logger.error("cannot say %s", error)
        raise
