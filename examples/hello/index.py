"""The first function: answers with a greeting and what it was sent."""


def main_handler(event, context):
    name = event.get("name", "world")
    print("greeting", name)
    return {"hello": name, "request": context["request_id"]}
