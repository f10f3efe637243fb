#!/usr/bin/env python3
"""Makes tree.jsonl: the feed of ten relays, 500 viewers and some trouble, recorded as it came.

    cargo build --release -p relay -p bench -p netsim
    tui/tests/feeds/record.py target/release tui/tests/feeds/tree.jsonl

Its lines are what `tui --record` writes while edge-nyc is looked at: trees, and between them all that is known of that node.
Seconds of the recording: from 7 the line to edge-nyc's viewers is too thin for them all, and so is that of one viewer of
edge-fra; from 14 to 20 the line between edge-sin and its parent is dead; at 23 a viewer of edge-par leaves.
Addresses become ones for documentation, and where all sessions are told only those that are worst off are kept. Nothing else
is changed.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.request

PARENTS = {
    "root": None,
    "eu": "root", "us": "root", "ap": "root",
    "edge-ams": "eu", "edge-fra": "eu", "edge-par": "eu",
    "edge-bos": "us", "edge-nyc": "us",
    "edge-sin": "ap",
}
NAMES = list(PARENTS)
EDGES = [name for name in NAMES if name.startswith("edge")]
SECONDS = 28
VIEWERS = 498
SIZE, RATE, GROUP = 2500, 10, 20
LOOKED_AT = "edge-nyc"
KEPT_SESSIONS = {LOOKED_AT: 24}


def port(name, of="media"):
    return 24400 + NAMES.index(name) + {"media": 0, "admin": 20, "page": 40, "line": 60, "thin": 80}[of]


def url(name, of="media"):
    return f"moqt://127.0.0.1:{port(name, of)}"


def main(programs, out):
    running = []

    def start(program, *arguments, **more):
        process = subprocess.Popen(
            [programs / program, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more
        )
        running.append(process)
        return process

    def line(name, of, to, queue):
        return start("netsim", "--listen", f"127.0.0.1:{port(name, of)}", "--to", f"127.0.0.1:{port(to)}",
                     "--delay", 12, "--queue", queue, stdin=subprocess.PIPE, text=True)

    def change(process, text):
        process.stdin.write(text + "\n")
        process.stdin.flush()

    def viewer(target):
        return start("weir-sub", "--relay", target, "--name", "live/0", "--track", "video", "--tls-disable-verify")

    with tempfile.TemporaryDirectory() as state:
        try:
            for name, parent in PARENTS.items():
                upstream = ["--upstream", url(name, "line") if name == "edge-sin" else url(parent)] if parent else []
                start("relay", "--node", name, "--state-dir", f"{state}/{name}", "--tls-disable-verify",
                      "--listen", f"127.0.0.1:{port(name)}", "--admin", f"127.0.0.1:{port(name, 'admin')}",
                      "--http", f"127.0.0.1:{port(name, 'page')}", *upstream)
            uplink = line("edge-sin", "line", "ap", "256k")
            shared = line("edge-nyc", "thin", "edge-nyc", "256k")
            thin = line("edge-fra", "thin", "edge-fra", "16k")
            time.sleep(3)
            targets = [url(edge, "thin" if edge == "edge-nyc" else "media") for edge in EDGES]
            start("weir-bench", "load", "--publish", url("root"), *[x for t in targets for x in ("--relay", t)],
                  "--name", "live", "--viewers", VIEWERS, "--size", SIZE, "--rate", RATE, "--group", GROUP,
                  "--seconds", SECONDS + 10)
            time.sleep(4)
            viewer(url("edge-fra", "thin"))
            leaves = viewer(url("edge-par"))
            time.sleep(1)
            recorded = []
            nodes = f"http://127.0.0.1:{port('root', 'admin')}/api/v1/nodes"
            with urllib.request.urlopen(f"{nodes}/watch") as feed, urllib.request.urlopen(
                f"{nodes}/{LOOKED_AT}/watch"
            ) as detail:
                for second in range(SECONDS):
                    recorded.append(feed.readline())
                    recorded.append(detail.readline())
                    if second == 7:
                        change(shared, "rate=11M")
                        change(thin, "rate=100k")
                    if second == 14:
                        change(uplink, "loss=100")
                    if second == 20:
                        change(uplink, "loss=0")
                    if second == 23:
                        leaves.terminate()
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait()
    with open(out, "w", encoding="utf-8") as file:
        for line in map(json.loads, recorded):
            for node in line.get("nodes", [line]):
                tidy(node)
            file.write(json.dumps(line, separators=(",", ":")) + "\n")


def tidy(node):
    ports = {port(name, of): name for name in NAMES for of in ("media", "line", "thin")}
    node["sessions"].sort(key=lambda it: (-(it.get("behind_ms") or 0), -(it.get("queued_bytes") or 0), it["id"]))
    kinds = [it for it in node["sessions"] if it["kind"] != "viewer"]
    viewers = [it for it in node["sessions"] if it["kind"] == "viewer"]
    node["sessions"] = kinds + viewers[: KEPT_SESSIONS.get(node["node"], 8)]
    for session in node["sessions"]:
        _, number = session["remote"].rsplit(":", 1)
        network = "198.51.100" if session["kind"] == "viewer" else "203.0.113"
        session["remote"] = f"{network}.{int(number) % 250 + 1}:{number}"
    for upstream in node["upstream"]:
        number = int(upstream["url"].rstrip("/").rsplit(":", 1)[1])
        name = ports[number]
        parent = PARENTS[name] if name == node["node"] else name
        upstream["url"] = f"moqt://{parent}.example.org:4433"


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]).resolve(), sys.argv[2])
