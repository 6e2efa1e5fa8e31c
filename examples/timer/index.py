"""Prints the event of a timer: its name, due time and message."""


def main_handler(event, context):
    print(event["TriggerName"], "was due at", event["Time"], "and says", event["Message"])
