# SPDX-License-Identifier: MIT
"""A web server that asks for Negotiate and hands every token to `sallyport gss serve`: one connection there for each here.
negotiate_stand.py PORT GSS-PORT [--close] [--plain] [--cert FILE]"""
import argparse
import base64
import http.server
import socket
import ssl
import struct


def exact(s, n):
    data = b''
    while len(data) < n:
        more = s.recv(n - len(data))
        if not more:
            return None
        data += more
    return data


def ask(s, token):
    s.sendall(struct.pack('>I', len(token)) + token)
    head = exact(s, 4)
    return head and exact(s, struct.unpack('>I', head)[0])


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    disable_nagle_algorithm = True          # head and body go out by themselves
    behind = None

    def token(self):
        given = self.headers.get('Authorization', '')
        if not given.startswith('Negotiate '):
            return None
        self.behind = self.behind or socket.create_connection(('127.0.0.1', options.gss))
        return ask(self.behind, base64.b64decode(given[10:], validate=True))

    def do_GET(self):
        token = self.token()
        body = b'who are you?\n'
        self.send_response(401)
        if not options.plain:
            self.send_header('WWW-Authenticate', 'Negotiate' + (' ' + base64.b64encode(token).decode() if token else ''))
        self.send_header('WWW-Authenticate', 'Basic realm="stand"')
        self.send_header('Content-Length', str(len(body)))
        if options.close:
            self.send_header('Connection', 'close')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


parser = argparse.ArgumentParser()
parser.add_argument('port', type=int)
parser.add_argument('gss', type=int)
parser.add_argument('--close', action='store_true')
parser.add_argument('--plain', action='store_true')
parser.add_argument('--cert')
options = parser.parse_args()
server = http.server.ThreadingHTTPServer(('127.0.0.1', options.port), Handler)
if options.cert:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.cert)
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
