"""A sample function for the warm-up run: the shim loads and calls it before it waits for an assignment."""

import json
import logging
import os
import time

logger = logging.getLogger(__name__)


class Greeter:
    """A class, so that the warm-up run defines one."""

    def __init__(self, name):
        self.name = name

    def greet(self):
        return "Hello, {}!".format(self.name)


def main_handler(event, context):
    try:
        text = json.dumps({"event": event, "at": int(time.time()), "greeting": Greeter("world").greet()})
        return {"text": text, "environment": len(os.environ)}
    except ValueError as error:
        logger.error("failed to encode: %s", error)
        raise
