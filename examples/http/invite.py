"""Invites one address and a list over HTTP, with Python's standard library. enqueue serve must run; USHER_API_TOKEN is
one of its tokens."""
import json
import os
import time
import urllib.error
import urllib.request

API = os.environ.get("USHER_API_URL", "http://127.0.0.1:8081")


class Refused(Exception):
    def __init__(self, problem):
        super().__init__(problem["detail"])
        self.problem = problem


def call(method, path, body=None, content_type=None, key=None):
    """Makes a request, and repeats it while the server says that it should."""
    for tries in range(6):
        request = urllib.request.Request(API + path, data=body, method=method)
        request.add_header("Authorization", "Bearer " + os.environ["USHER_API_TOKEN"])
        if content_type:
            request.add_header("Content-Type", content_type)
        if key:
            request.add_header("Idempotency-Key", key)
        try:
            with urllib.request.urlopen(request) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            problem = json.load(error)
            again = error.headers.get("Retry-After")
            if not again or tries == 5:
                raise Refused(problem) from None
            time.sleep(int(again))


def ended(task_id):
    """Waits until a task has its outcome."""
    while True:
        task = call("GET", f"/v1/tasks/{task_id}?wait=30s")
        if task["state"] in ("done", "dead", "cancelled"):
            return task


count, rows = int(os.environ.get("COUNT", 1)), int(os.environ.get("ROWS", 2))

# The key makes it safe to repeat: an order that invites once uses the order's number.
tasks = []
for i in range(count):
    invitation = {"email_address": f"python{i}@example.com", "public_metadata": {"plan": "pro"}}
    tasks.append(call("POST", "/v1/invitations", json.dumps(invitation).encode(), "application/json",
                      key=f"order-{i}-python"))
print(f"invited: {len(tasks)}, of which {sum(task['exists'] for task in tasks)} were before")

csv = "email_address,redirect_url\n" + "".join(f"python-list-{i}@example.com,/welcome\n" for i in range(rows))
upload = call("POST", "/v1/campaigns/python/recipients", csv.encode(), "text/csv", key="list-1-python")

states = {}
for task in tasks + [upload]:
    state = ended(task["task_id"])["state"]
    states[state] = states.get(state, 0) + 1
print("ended:", json.dumps(states))
done = ended(upload["task_id"])
print(f"list: {done['sent']} sent, {done['dead']} dead")

# What is wrong is named, each with its place; nothing is done then.
try:
    call("POST", "/v1/invitations", b'{"email_address": "nobody"}', "application/json")
except Refused as refused:
    faults = "; ".join(f"{fault['pointer']}: {fault['reason']}" for fault in refused.problem["errors"])
    print(f"refused: {refused.problem['status']} {faults}")
