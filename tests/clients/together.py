"""Clients of different kinds on one gateway at the same time.

    together.py CLIENTS ADMIN PROGRAM...

CLIENTS and ADMIN are host:port; each PROGRAM is a command line, quoted as one
argument. Checks that the gateway is healthy on both ports, then that clients of
all kinds see one order. For that each program is started as

    PROGRAM order CLIENTS ADMIN TOPIC OWN TOTAL

It subscribes to TOPIC, prints "subscribed", waits for a line on its standard
input, sends OWN text messages "NAME-0", "NAME-1", .. and prints the first TOTAL
messages that it receives as one line of JSON. Meanwhile this program publishes
over HTTP. Everybody must have seen the same sequence, with each sender's
messages in the order in which they were sent.
"""

import json
import shlex
import subprocess
import sys
import threading

import gateway

TOPIC = "room/everybody"
# Messages from each program, and as many over HTTP.
MESSAGES_EACH = 50
# Longest that the whole exchange may take, a browser's start included.
SECONDS_MAX = 90


def health(clients, admin):
    for address in (clients, admin):
        status, answer = gateway.request(address, "GET", "/health")
        if status != 200:
            raise AssertionError(f"GET http://{address}/health: {status} {answer!r}")


def one_order(clients, admin, programs):
    total = MESSAGES_EACH * (len(programs) + 1)
    arguments = ["order", clients, admin, TOPIC, str(MESSAGES_EACH), str(total)]
    processes = [
        subprocess.Popen(
            shlex.split(program) + arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for program in programs
    ]
    # A program that hangs ends here; its reader below then meets end of file.
    deadline = threading.Timer(SECONDS_MAX, lambda: [p.kill() for p in processes])
    deadline.start()
    try:
        for program, process in zip(programs, processes):
            answer = process.stdout.readline().strip()
            if answer != "subscribed":
                raise AssertionError(f"{program} printed {answer!r} instead of subscribed")
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        for i in range(MESSAGES_EACH):
            gateway.publish(admin, TOPIC, f"http-{i}")
        sequences = [received(*each) for each in zip(programs, processes)]
    finally:
        deadline.cancel()
        for process in processes:
            process.kill()
            process.wait()
    compare(programs, sequences)


def received(program, process):
    line = process.stdout.readline()
    if not line:
        raise AssertionError(f"{program} ended, or took over {SECONDS_MAX} s, before it had every message")
    return json.loads(line)


def compare(programs, sequences):
    first = sequences[0]
    sent_by = {}
    for message in first:
        sender, number = message.rsplit("-", 1)
        sent_by.setdefault(sender, []).append(int(number))
    for sender, numbers in sent_by.items():
        if numbers != list(range(MESSAGES_EACH)):
            raise AssertionError(f"{programs[0]} saw messages of {sender} as {numbers}")
    for program, sequence in zip(programs[1:], sequences[1:]):
        for at, (one, other) in enumerate(zip(first, sequence)):
            if one != other:
                raise AssertionError(
                    f"message {at} is {one!r} for {programs[0]}, {other!r} for {program}"
                )


def main(clients, admin, *programs):
    checks = {"health on both ports": lambda: health(clients, admin)}
    if len(programs) > 1:
        name = f"one order for {len(programs)} kinds of clients and HTTP"
        checks[name] = lambda: one_order(clients, admin, programs)
    failed = 0
    for name, run in checks.items():
        try:
            run()
            print(f"ok together: {name}", flush=True)
        except (AssertionError, OSError, ValueError) as error:
            print(f"FAILED together: {name}: {error}", flush=True)
            failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
