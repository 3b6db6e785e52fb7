"""The gateway's admin port, for the Python programs: publish and metrics."""

import http.client
import re

REQUEST_SECONDS_MAX = 20


def request(address, method, path, body=None, content_type=None):
    """One HTTP exchange; returns (status, body as bytes)."""
    connection = http.client.HTTPConnection(address, timeout=REQUEST_SECONDS_MAX)
    try:
        headers = {"Content-Type": content_type} if content_type else {}
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def publish(admin, topic, message):
    """Publishes over HTTP: a str as text, bytes as binary."""
    if isinstance(message, str):
        body, content_type = message.encode(), "text/plain; charset=utf-8"
    else:
        body, content_type = message, "application/octet-stream"
    status, answer = request(admin, "POST", f"/topics/{topic}", body, content_type)
    if not 200 <= status < 300:
        raise AssertionError(f"POST /topics/{topic}: {status} {answer!r}")


def metrics(admin):
    """What the gateway counts, as OpenMetrics text."""
    status, answer = request(admin, "GET", "/metrics")
    if status != 200:
        raise AssertionError(f"GET /metrics: {status} {answer!r}")
    return answer.decode()


def counter(admin, name):
    """A counter, added up over the shards."""
    pattern = rf"^wsgate_{name}_total\{{[^}}]*\}} ([\d.]+)"
    return sum(int(float(value)) for value in re.findall(pattern, metrics(admin), re.MULTILINE))


def shard_counts(admin):
    """Connections on each shard, from the metrics."""
    pattern = r'^wsgate_connections\{[^}]*shard="(\d+)"[^}]*\} ([\d.]+)'
    counts = {}
    for shard, value in re.findall(pattern, metrics(admin), re.MULTILINE):
        counts[shard] = counts.get(shard, 0) + int(float(value))
    return list(counts.values())
