"""Starts the cloud and prints its address; it ends on SIGTERM.

    python3 tests/xks/cloud --ca ca.pem --route xks.example.com=127.0.0.1:8443

README.md beside this file says what it does as AWS does, and what it leaves out.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from kms import Cloud
from log import Log
from network import Network, parse_route
from server import Server


def main() -> None:
    args = arguments().parse_args()
    network = Network(
        ca=args.ca,
        routes=dict(args.route),
        timeout=args.timeout_ms / 1000,
        log=Log(args.log),
        client_certificate=args.client_certificate,
    )
    metadata = dict(pair.split("=", 1) for pair in args.metadata)
    cloud = Cloud(args.region, args.account, network, metadata)
    cloud.check_health_every(args.health_seconds)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = Server(cloud, args.port)
    print(server.address, flush=True)
    server.serve_forever()


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cloud", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--port", type=int, default=0, help="to listen on, at 127.0.0.1 (default: a free one)")
    add("--region", default="eu-central-1")
    add("--account", default="111122223333")
    add("--ca", type=Path, required=True, help="the only authority for certificates of proxies")
    add("--client-certificate", type=Path, help="shown to proxies: a chain and its key, in PEM")
    add(
        "--route",
        type=parse_route,
        action="append",
        default=[],
        metavar="HOST=ADDRESS:PORT",
        help="where the proxy of this name listens, for a key store's endpoint has no port",
    )
    add("--timeout-ms", type=int, default=250, help="for one attempt; machines may be slow")
    add("--health-seconds", type=float, default=15, help="between health checks of a key store")
    add(
        "--metadata",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="more of requestMetadata, as awsSourceVpc and kmsViaService, the same for all",
    )
    add("--log", type=Path, help="what was asked of it and of proxies, a JSON document a line")
    return parser


if __name__ == "__main__":
    main()
