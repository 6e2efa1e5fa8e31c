"""What a timer sends: which it is, when it was due, and what it was told to say."""


def main_handler(event, context):
    print(event["TriggerName"], "was due at", event["Time"], "and says", event["Message"])
