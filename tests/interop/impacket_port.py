# SPDX-License-Identifier: MIT
"""Runs an impacket example against a KDC on a port of its own; impacket itself only knows port 88.

Usage: impacket_port.py PORT SCRIPT ARGUMENTS...
"""
import runpy
import socket
import sys

port = int(sys.argv[1])
resolve = socket.getaddrinfo


def moved(host, service, *rest, **named):
    return resolve(host, port if service == 88 else service, *rest, **named)


socket.getaddrinfo = moved
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name='__main__')
