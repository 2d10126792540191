# SPDX-License-Identifier: MIT
"""The relays that bench/relay measures: how each one is configured, started, asked and ended. All have the same certificate."""
import json
import os
import pathlib
import signal
import socket
import subprocess
import time

from servers import Failure, PEERS, REALM, Stage, command, family

HOST = 'relay.bench.test'
ROOT = 'kdcproxy'                   # of tools/peers
KDC = 'mit-min-10'                  # behind every relay but the one that asks its own
REPLY_WRAP = 16                     # KDC-PROXY-MESSAGE around a reply of 256 bytes to 64 KiB, its length included
THREADS, WSGI_THREADS = 16, 15
SLOW_REALMS = 250                   # 255 can be configured
SLOW_KDCS = 2                       # of each of them
SLOW_PORT = 16999
WSGI = '/usr/lib/python3/dist-packages/kdcproxy/__init__.py'
NGINX = '''daemon off;
user root;
worker_processes 1;
pid {where}/pid;
error_log {where}/error.log;
events {{ worker_connections 4096; }}
http {{
 access_log off;
 default_type application/kerberos;
 client_body_temp_path {where}/body;
 proxy_temp_path {where}/proxy;
 fastcgi_temp_path {where}/fastcgi;
 uwsgi_temp_path {where}/uwsgi;
 scgi_temp_path {where}/scgi;
 client_body_buffer_size 16k;
 upstream python {{ server unix:{where}/python; keepalive 16; }}
 server {{
  listen 127.0.0.1:{port} ssl backlog=511;
  ssl_certificate {certificate};
  ssl_certificate_key {key};
  ssl_protocols TLSv1.3;
  location / {{ {what} }}
 }}
}}
'''
APACHE = '''ServerRoot {where}
ServerName {host}
PidFile {where}/pid
DefaultRuntimeDir {where}
Listen 127.0.0.1:{port}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule socache_shmcb_module {modules}/mod_socache_shmcb.so
LoadModule ssl_module {modules}/mod_ssl.so
LoadModule wsgi_module {modules}/mod_wsgi.so
User www-data
Group www-data
ErrorLog {where}/error.log
KeepAlive On
MaxKeepAliveRequests 1000
KeepAliveTimeout 30
SSLEngine on
SSLProtocol TLSv1.3
SSLCertificateFile {certificate}
SSLCertificateKeyFile {key}
WSGISocketPrefix {where}/wsgi
WSGIDaemonProcess kdcproxy processes=1 threads={threads}
WSGIProcessGroup kdcproxy
WSGIApplicationGroup %{{GLOBAL}}
WSGIScriptAlias /KdcProxy {wsgi}
<Directory "/usr/lib/python3/dist-packages/kdcproxy">
 Require all granted
</Directory>
'''
# nginx asks the others by what each speaks.
TO_GUNICORN = 'proxy_pass http://python; proxy_http_version 1.1; proxy_set_header Connection "";'
TO_UWSGI = ('uwsgi_pass unix:{where}/python; uwsgi_param REQUEST_METHOD $request_method; uwsgi_param CONTENT_LENGTH $content_length; '
            'uwsgi_param CONTENT_TYPE $content_type; uwsgi_param PATH_INFO $document_uri; uwsgi_param QUERY_STRING $query_string; '
            'uwsgi_param REQUEST_URI $request_uri; uwsgi_param SERVER_PROTOCOL $server_protocol; uwsgi_param SERVER_NAME $server_name; '
            'uwsgi_param SERVER_PORT $server_port; uwsgi_param REMOTE_ADDR $remote_addr;')


class Relay:
    """Some processes on the servers' core. `kdc`: the server behind it, or None when it is among the processes; `static`: the bytes of
    each reply's body, which then mean nothing; `slow`: one whose requests take about a thousand times a microsecond."""

    def __init__(self, name, port, commands, kdc=None, env=None, peer=ROOT, static=0, slow=False):
        self.name, self.port, self.commands, self.kdc, self.env = name, port, commands, kdc, env
        self.peer, self.static, self.slow, self.processes = peer, static, slow, []

    def start(self, stage):
        if self.kdc and not self.kdc.process:
            self.kdc.start(stage)
        with open(stage.dir / f'{self.name}.out', 'w', encoding='utf-8') as log:
            for argv in self.commands:
                enter = [str(PEERS), 'run', self.peer, '--'] if self.peer else []
                argv = ['taskset', '-c', stage.server_core, *enter, *map(str, argv)]
                self.processes.append(subprocess.Popen(argv, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                                       start_new_session=True))
        self.wait(stage)

    def wait(self, stage):
        """Until it has answered."""
        said = ''
        for _ in range(100):
            if any(p.poll() is not None for p in self.processes):
                break
            if self.has_port():
                done = stage.ask_relay(self, 'as-ts', 1, 1, 1)
                if done.returncode == 0:
                    return
                said = done.stdout + done.stderr
            time.sleep(0.1)
        log = (stage.dir / f'{self.name}.out').read_text(errors='replace')[-1500:]
        raise Failure(f'{self.name} does not answer\n{said}{log}')

    def has_port(self):
        with socket.socket() as s:
            return s.connect_ex(('127.0.0.1', self.port)) == 0

    def pids(self):
        """Of the relay, and of the KDC behind it."""
        return [p.pid for p in self.processes], [self.kdc.process.pid]

    def stop(self):
        for p in self.processes:
            if p.poll() is None:
                os.killpg(p.pid, signal.SIGTERM)
        for p in self.processes:
            try:
                p.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(p.pid, signal.SIGKILL)
                p.wait()
        self.processes = []


class Ours(Relay):
    """The courier is the relay; the worker is the KDC of the local route, and idle otherwise."""

    def pids(self):
        found = {}
        for pid in family(self.processes[0].pid):
            found.setdefault(pathlib.Path(f'/proc/{pid}/comm').read_text(encoding='ascii').strip(), []).append(pid)
        return found['sallyport-cour'], [self.kdc.process.pid] if self.kdc else found['sallyport-kdc']


class Direct(Relay):
    """A KDC asked by UDP without a relay."""

    def __init__(self, name, server):
        super().__init__(name, server.port, [], kdc=server)

    def wait(self, stage):
        pass

    def pids(self):
        return [self.kdc.process.pid], []


class RelayStage(Stage):
    def __init__(self, build, cores, few):
        super().__init__(build, cores, few, few, few)
        self.dir.chmod(0o755)       # for www-data
        self.certificate, self.key = self.dir / 'relay.pem', self.dir / 'relay.key'
        command('openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2',
                '-subj', f'/CN={HOST}', '-addext', f'subjectAltName=DNS:{HOST}', '-keyout', self.key, '-out', self.certificate)
        self.relays = {}

    def relay(self, name):
        """direct-mit, direct-ours, nginx-static, nginx-gunicorn, nginx-uwsgi, apache-wsgi, gunicorn, ours-local, ours-native, ours-crowded"""
        if name not in self.relays:
            make = {'direct': self.make_direct, 'nginx': self.make_nginx, 'apache': self.make_apache, 'gunicorn': self.make_gunicorn,
                    'ours': self.make_relay}[name.partition('-')[0]]
            self.relays[name] = make(name)
        return self.relays[name]

    def make_direct(self, name):
        return Direct(name, self.server(KDC if name == 'direct-mit' else 'ours-10'))

    def terms(self, name):
        return {'where': self.new_directory(name), 'port': self.port(), 'certificate': self.certificate, 'key': self.key, 'host': HOST}

    # ---- kdcproxy ----

    def python_env(self, where):
        kdc = f'kerberos+udp://127.0.0.1:{self.server(KDC).port}'       # which costs it less than TCP, and makes no SYN losses
        (where / 'kdcproxy.conf').write_text(f'[global]\nuse_dns = false\n[{REALM}]\nkerberos = {kdc}\n')
        return dict(os.environ, KDCPROXY_CONFIG=str(where / 'kdcproxy.conf'))

    def gunicorn(self, *where):
        return ['gunicorn', '-k', 'gthread', '-w', 1, '--threads', THREADS, '--keep-alive', 30, '--no-sendfile', *where, 'kdcproxy:application']

    def make_gunicorn(self, name):
        t = self.terms(name)
        own = ['-b', f'127.0.0.1:{t["port"]}', '--certfile', self.certificate, '--keyfile', self.key]
        return Relay(name, t['port'], [self.gunicorn(*own)], kdc=self.server(KDC), env=self.python_env(t['where']), slow=True)

    def make_apache(self, name):
        t = self.terms(name)
        t['where'].chmod(0o777)
        (t['where'] / 'conf').write_text(APACHE.format(**t, modules='/usr/lib/apache2/modules', threads=WSGI_THREADS, wsgi=WSGI))
        return Relay(name, t['port'], [['apache2', '-D', 'FOREGROUND', '-f', t['where'] / 'conf']], kdc=self.server(KDC),
                     env=self.python_env(t['where']), slow=True)

    def make_nginx(self, name):
        t, behind = self.terms(name), name.partition('-')[2]
        socket_path = t['where'] / 'python'
        if behind == 'static':
            n = self.reply_bytes() + REPLY_WRAP
            what, commands = f'return 200 "{"x" * n}";', []
        elif behind == 'gunicorn':
            what, commands = TO_GUNICORN, [self.gunicorn('-b', f'unix:{socket_path}')]
        else:
            what = TO_UWSGI.format(**t)
            commands = [['uwsgi_python311', '--plugin', 'python311', '--master', '--die-on-term', '--need-app', '--processes', 1,
                         '--threads', THREADS, '--disable-logging', '--uwsgi-socket', socket_path, '--module', 'kdcproxy:application']]
        (t['where'] / 'conf').write_text(NGINX.format(**t, what=what))
        commands.append(['nginx', '-e', t['where'] / 'error.log', '-p', t['where'], '-c', t['where'] / 'conf'])
        return Relay(name, t['port'], commands, kdc=self.server(KDC), env=self.python_env(t['where']),
                     static=n if behind == 'static' else 0, slow=behind != 'static')

    # ---- ours ----

    def slow_realms(self):
        """Realms whose KDCs never answer (bench/relay holds their ports)."""
        out = ''
        for i in range(SLOW_REALMS):
            kdcs = ' '.join(f'127.2.{k}.{i}:{SLOW_PORT}' for k in range(SLOW_KDCS))
            out += f'[realm SLOW{i}.TEST]\nkdc = {kdcs}\nladder = native\nvia-relay = on\n'
        return out

    def make_relay(self, name):
        """ours-local answers from its own worker, ours-native and ours-crowded ask krb5kdc by UDP. Limits that are for strangers are out of
        the way: all requests come from one address."""
        t, how = self.terms(name), name.partition('-')[2]
        kdc = None if how == 'local' else self.server(KDC)
        root = t['where']
        (root / 'etc/sallyport').mkdir(parents=True)
        (root / 'etc/sallyport/sallyport.conf').write_text(
            f'[kdc]\nlisten = 127.0.0.1:{self.port()}\nlisten-kpasswd = none\n[daemon]\nworkers = 1\nuser = root\n'
            f'[log]\ntarget = file\nflood = 1000000\n[relay]\nlisten = 127.0.0.1:{t["port"]}\ncertificate = {self.certificate}\n'
            f'key = {self.key}\nrealms = {REALM}\nauth = none\nopen-per-second = 1000000\nper-source = 4096\n'
            f'[realm {REALM}]\nper-source = 1000000\n'
            + (f'kdc = 127.0.0.1:{kdc.port}\nladder = native\n' if kdc else '')
            + (self.slow_realms() if how == 'crowded' else ''))
        env = dict(os.environ, SALLYPORT_ROOT=str(root))
        command(self.program('sallyport'), 'init', '--realm', 'OWN.TEST' if kdc else REALM, env=env)
        if not kdc:
            command(*self.accounts('ours', root, self.size['10'], 18), env=env)
        return Ours(name, t['port'], [[self.program('sallyportd'), '--foreground', '--root', root]], kdc=kdc, env=env, peer=None)

    # ---- asking ----

    def reply_bytes(self):
        """Of an AS reply, from the KDC itself."""
        server = self.server(KDC)
        if not server.process:
            server.start(self)
        return json.loads(self.load(server, 'as-ts', 1, 1, 1))['reply_bytes']

    def ask_relay(self, relay, kind, count, window, warmup, *more):
        own, behind = relay.pids()
        argv = ['taskset', '-c', self.client_core, self.program('bench-load'), '--server', f'127.0.0.1:{relay.port}', '--kind', kind,
                '--count', count, '--warmup', warmup, '--window', window, '--users', self.size['10'], '--services', 10]
        if not isinstance(relay, Direct):
            argv += ['--https', *(['--raw', relay.static] if relay.static else ['--kdc', f'127.0.0.1:{self.ticket_port(relay)}'])]
        argv += [word for pid in own for word in ('--pid', pid)] + [word for pid in behind for word in ('--beside', pid)] + list(more)
        return subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False)

    @staticmethod
    def ticket_port(relay):
        """The KDC's own, next to the relay's port where both are ours."""
        return relay.kdc.port if relay.kdc else relay.port + 1

    def load_relay(self, relay, kind, count, window, warmup, *more):
        done = self.ask_relay(relay, kind, count, window, warmup, *more)
        if done.returncode != 0:
            raise Failure(f'{relay.name} {kind} window {window} {" ".join(more)}: {done.stdout}{done.stderr}')
        return done.stdout

    def close(self, keep):
        for relay in self.relays.values():
            relay.stop()
        super().close(keep)
