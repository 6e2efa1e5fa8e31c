"""A first function: returns a greeting and the request id."""


def main_handler(event, context):
    name = event.get("name", "world")
    print("greeting", name)
    return {"hello": name, "request": context["request_id"]}
