# SPDX-License-Identifier: MIT
"""A private realm for the interop tests, and the stock programs that talk to it.

The realm is ours, or (SALLYPORT_KDC=mit) a stock MIT KDC from the private roots: what passes there shows that a test
can pass, and that a failure against ours is ours.
"""
import fcntl
import os
import pathlib
import pty
import pwd
import re
import select
import signal
import socket
import subprocess
import termios
import time

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
PEERS = TOP / 'tools' / 'peers'
BUILD = pathlib.Path(os.environ.get('SALLYPORT_BUILD', TOP / 'b-release')).resolve()
SALLYPORT = os.environ.get('SALLYPORT_COMMAND', str(BUILD / 'src/cli/sallyport'))
SALLYPORTD = os.environ.get('SALLYPORT_DAEMON', str(BUILD / 'src/daemon/sallyportd'))
REALM = 'TEST'
PASSWORD = 'Violet-Harbour-42'
OTHER_PASSWORD = 'Quiet-Lantern-97'
WRONG_PASSWORD = 'Not-The-Word-13'
HOST = 'nas1.test'
PATIENCE = 60


class Result:
    """How a program ended, and everything it said."""

    def __init__(self, code, text):
        self.code, self.text = code, text

    def ok(self):
        assert self.code == 0, f'exit status {self.code}: {self.text}'
        return self.text

    def refused(self, *patterns):
        """The program must fail, and say one of these."""
        assert self.code != 0, f'expected a failure: {self.text}'
        assert any(re.search(p, self.text) for p in patterns), f'none of {patterns} in: {self.text}'
        return self.text


def run(argv, stdin='', env=None, timeout=PATIENCE, cwd=None):
    done = subprocess.run([str(a) for a in argv], input=stdin, env=env, cwd=cwd, timeout=timeout, text=True,
                          errors='replace', stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return Result(done.returncode, done.stdout)


def converse(argv, script, env=None, timeout=PATIENCE):
    """Runs a program on a terminal of its own and answers each prompt of the script in order."""
    pid, fd = pty.fork()
    if pid == 0:
        try:
            os.execvpe(str(argv[0]), [str(a) for a in argv], env or os.environ)
        finally:
            os._exit(127)
    said, seen, script = '', 0, list(script)
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if select.select([fd], [], [], 0.2)[0]:
            try:
                chunk = os.read(fd, 4096)
            except OSError:         # Linux reports the end of a terminal so
                break
            if not chunk:
                break
            said += chunk.decode(errors='replace')
        if script:
            m = re.compile(script[0][0]).search(said, seen)
            if m:
                seen = m.end()
                os.write(fd, (script.pop(0)[1] + '\n').encode())
    else:
        os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    os.close(fd)
    assert not script, f'never asked for {script[0][0]!r}: {said}'
    return Result(os.waitstatus_to_exitcode(status), said)


def ask_on_terminal(argv, question, act, env=None):
    """A question on a terminal of its own, and what comes of act(pid, terminal): exit status, what was said, whether echo is back."""
    near, far = pty.openpty()
    child = subprocess.Popen([str(a) for a in argv], stdin=far, stdout=far, stderr=far, env=env, start_new_session=True,
                             preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
    said, end = '', time.monotonic() + 30

    def hear(until):
        nonlocal said
        while time.monotonic() < end and not until():
            if select.select([near], [], [], 0.05)[0]:
                said += os.read(near, 4096).decode(errors='replace')
    hear(lambda: question in said)
    act(child.pid, near)
    hear(lambda: child.poll() is not None and not select.select([near], [], [], 0.1)[0])
    status, echo = child.poll(), bool(termios.tcgetattr(far)[3] & termios.ECHO)
    if status is None:
        child.kill()
        child.wait()
    os.close(near)
    os.close(far)
    assert status is not None, f'the question stays open: {said!r}'
    return status, said, echo


def absent(why):
    """A peer that is not there is a skip, and where peers are required a failure."""
    if os.environ.get('SALLYPORT_PEERS_REQUIRED') == '1':
        pytest.fail(why + ' (SALLYPORT_PEERS_REQUIRED=1)')
    pytest.skip(why)


def need_peer(root):
    if run([PEERS, 'has', root]).code != 0:
        absent(f'peer root {root} is absent; tools/peers install {root}')


def peer(root, *argv):
    """The command line that runs a program of this root."""
    return [str(PEERS), 'run', root, '--', *[str(a) for a in argv]]


def free_port():
    """A port that is free for TCP and UDP on loopback just now."""
    for _ in range(100):
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(('127.0.0.1', 0))
            try:
                udp.bind(tcp.getsockname())
            except OSError:
                continue
            return tcp.getsockname()[1]
    raise RuntimeError('no free port')


class Server:
    """A program that runs until the test is over, its output in a file."""

    def __init__(self, argv, log, port, env=None, patience=15):
        self.log = pathlib.Path(log)
        self.argv = [str(a) for a in argv]
        with open(self.log, 'ab') as out:
            self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env,
                                            start_new_session=True)
        self.wait_for(port, patience)

    def wait_for(self, port, patience):
        end = time.monotonic() + patience
        while time.monotonic() < end and self.process.poll() is None:
            with socket.socket() as s:
                s.settimeout(1)
                if s.connect_ex(('127.0.0.1', port)) == 0:
                    return
            time.sleep(0.05)
        self.stop()
        raise RuntimeError(f'{self.argv} did not answer on port {port}: {self.said()}')

    def said(self):
        return self.log.read_text(errors='replace')[-4000:]

    def stop(self):
        """The exit status after a polite request to end; the whole session goes, whatever it forked."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        return self.process.wait()


class Realm:
    """What the tests ask of a realm; the two kinds below say how it is done."""
    name = REALM
    lacks = {}          # feature -> why this kind of realm has it not

    def __init__(self, dir, generous=False):
        """A generous realm lets tickets be renewed and forwarded; the default one does not."""
        self.dir, self.generous = dir, generous
        self.port, self.kpasswd_port = free_port(), free_port()
        self.counter = 0
        self.start()

    def need(self, feature):
        if feature in self.lacks:
            pytest.skip(f'{type(self).__name__}: {self.lacks[feature]}')

    def user(self, *options, password=PASSWORD):
        """A fresh account, so that no test sees another's failures."""
        self.counter += 1
        name = f'user{self.counter}'
        self.account_add(name, password, *options)
        return name

    def krb5_conf(self, flavour='mit', **libdefaults):
        """A client configuration; flavours differ in how a KDC is written."""
        lines = dict(default_realm=REALM, dns_lookup_kdc='false', dns_lookup_realm='false', rdns='false',
                     dns_canonicalize_hostname='false', **libdefaults)
        kdc = f'tcp/127.0.0.1:{self.port}' if flavour == 'heimdal-tcp' else f'127.0.0.1:{self.port}'
        self.counter += 1
        file = self.dir / f'krb5-{flavour}-{self.counter}.conf'
        file.write_text('[libdefaults]\n' + ''.join(f'    {k} = {v}\n' for k, v in lines.items()) +
                        f'[realms]\n    {REALM} = {{\n        kdc = {kdc}\n'
                        f'        kpasswd_server = 127.0.0.1:{self.kpasswd_port}\n    }}\n'
                        f'[domain_realm]\n    .test = {REALM}\n    {HOST} = {REALM}\n')
        return file


class SallyportRealm(Realm):
    def start(self):
        for program in (SALLYPORT, SALLYPORTD):
            if not os.access(program, os.X_OK):
                pytest.fail(f'{program} is not built; set SALLYPORT_BUILD to a build directory')
        self.root = self.dir / 'root'
        self.command('init', '--realm', REALM).ok()
        # Every test fails logins on purpose, and all come from one source.
        snippets = self.root / 'etc/sallyport/conf.d'
        snippets.mkdir(parents=True, exist_ok=True)
        more = 'renew-life = 604800\nforwardable = yes\n' if self.generous else ''
        (snippets / 'interop.conf').write_text('[kdc]\nguess-limits = off\n' + more)
        self.server = Server([SALLYPORTD, '--root', self.root, '--foreground',
                              '--listen', f'127.0.0.1:{self.port}',
                              '--listen-kpasswd', f'127.0.0.1:{self.kpasswd_port}'],
                             self.dir / 'sallyportd.log', self.port)

    def command(self, *argv, stdin=''):
        return run([SALLYPORT, *argv, '--root', self.root], stdin=stdin)

    def account_add(self, name, password, *options):
        self.command('account', 'add', name, '--password-stdin', *options, stdin=password + '\n').ok()

    def must_change(self):
        return self.user('--must-change')

    def disable(self, name):
        self.command('account', 'disable', name).ok()

    def expired_user(self):
        return self.user('--expires', '2020-01-01')

    def client_config(self, kind):
        return self.command('client-config', '--for', kind, '--kdc', f'127.0.0.1:{self.port}',
                            '--kpasswd', f'127.0.0.1:{self.kpasswd_port}').ok()

    def service_add(self, name, *aliases):
        options = [word for alias in aliases for word in ('--alias', alias)]
        self.command('service', 'add', name, *options).ok()

    def keytab(self, name, file):
        self.command('service', 'keytab', name, '--out', file).ok()

    def records(self):
        return self.root / 'var/log/sallyport/records.jsonl'

    def close(self):
        status = self.server.stop()
        assert status == 0, f'sallyportd ended with {status}: {self.server.said()}'


class MitRealm(Realm):
    lacks = {
        'alias': 'db2 has no aliases',
        'enterprise': 'does not know enterprise names',
        'hidden-users': 'answers unknown users with an error of its own',
        'revoked-tgt': 'TGTs outlive a password change',
        'policy': 'its default policy lets tickets be forwarded',
        'late-state': 'tells that an account is disabled before the password is proven',
        'records': 'writes no records',
        'client-config': 'prints no client configuration',
        'as-tag': 'writes tag 26 into AS replies too, which impacket refuses',
        'strict-checksum': 'takes requests without a body checksum',
    }

    def start(self):
        need_peer('mit')
        dir, admin = self.dir, free_port()
        (dir / 'kadm5.acl').write_text('')
        (dir / 'kdc.conf').write_text(f'''[kdcdefaults]
    kdc_listen = 127.0.0.1:{self.port}
    kdc_tcp_listen = 127.0.0.1:{self.port}
[realms]
    {REALM} = {{
        database_name = {dir}/principal
        key_stash_file = {dir}/stash
        acl_file = {dir}/kadm5.acl
        kadmind_listen = 127.0.0.1:{admin}
        kpasswd_listen = 127.0.0.1:{self.kpasswd_port}
        supported_enctypes = aes256-cts:normal aes128-cts:normal aes256-sha2:normal aes128-sha2:normal
        default_principal_flags = +preauth
        max_life = 10h
        max_renewable_life = {'7d' if self.generous else '0s'}
        disable_pac = true
    }}
''')
        self.env = dict(os.environ, LC_ALL='C', KRB5_CONFIG=str(self.krb5_conf()), KRB5_KDC_PROFILE=f'{dir}/kdc.conf')
        run(peer('mit', 'kdb5_util', 'create', '-s', '-P', 'master', '-r', REALM), env=self.env).ok()
        self.servers = [Server(peer('mit', 'krb5kdc', '-n', '-r', REALM, '-P', dir / 'kdc.pid'), dir / 'krb5kdc.log',
                               self.port, self.env),
                        Server(peer('mit', 'kadmind', '-nofork', '-r', REALM), dir / 'kadmind.log', admin, self.env)]

    def kadmin(self, query):
        text = run(peer('mit', 'kadmin.local', '-r', REALM, '-q', query), env=self.env).ok()
        assert 'kadmin.local:' not in text.replace('Authenticating', ''), text

    def account_add(self, name, password, *options):
        self.kadmin(f'addprinc -pw {password} {" ".join(options)} {name}')

    def must_change(self):
        return self.user('+needchange', '+requires_preauth')

    def disable(self, name):
        self.kadmin(f'modprinc -allow_tix {name}')

    def expired_user(self):
        return self.user('-expire', '2020-01-01', '+requires_preauth')

    def service_add(self, name, *aliases):
        for each in (name, *aliases):
            self.kadmin(f'addprinc -randkey {each if "/" in each else name.split("/")[0] + "/" + each}')

    def keytab(self, name, file):
        self.kadmin(f'ktadd -norandkey -k {file} {name}')

    def close(self):
        for server in self.servers:
            server.stop()


class Client:
    """One user's view: an environment with a configuration and a credential cache of its own."""

    def __init__(self, realm, root, dir, conf):
        self.realm, self.root, self.dir, self.conf = realm, root, dir, conf
        self.cache = dir / f'cc-{root}'
        self.trace = dir / f'trace-{root}'
        self.env = dict(os.environ, LC_ALL='C', HOME=str(dir), KRB5_CONFIG=str(conf), KRB5CCNAME=f'FILE:{self.cache}',
                        KRB5_TRACE=str(self.trace))
        self.env.pop('KRB5_KTNAME', None)

    def run(self, *argv, stdin='', timeout=PATIENCE, cwd=None, **env):
        return run(peer(self.root, *argv), stdin=stdin, env=dict(self.env, **env), timeout=timeout, cwd=cwd)

    def converse(self, argv, script):
        return converse(peer(self.root, *argv), script, env=self.env)

    def traced(self):
        return self.trace.read_text(errors='replace') if self.trace.exists() else ''

    def klist(self, *options):
        return self.run('klist', *options)


APACHE_MODULES = '/usr/lib/apache2/modules'


def apache(dir, realm, root='mit', several_rounds=False, listen=None, **env):
    """Stock Apache with mod_auth_gssapi before one page that says who asks for it: a Server with port, url, dir and errors.

    env: what its process gets besides; KRB5_CONFIG and the place of its replay cache are there. several_rounds lets a login
    take more than one request, as IAKERB needs; listen is an address and a port for others than this machine."""
    need_peer(root)
    (dir / 'htdocs').mkdir(parents=True)
    (dir / 'htdocs/index.html').write_text('through the small gate\n')
    (dir / 'replay').mkdir()
    realm.keytab(f'HTTP/{HOST}', dir / 'http.keytab')
    user = pwd.getpwnam('www-data')
    for file in 'http.keytab', 'replay':
        os.chown(dir / file, user.pw_uid, user.pw_gid)
    port = free_port()
    modules = 'mpm_prefork authn_core authz_core authz_user auth_gssapi dir headers'.split()
    (dir / 'httpd.conf').write_text(
        ''.join(f'LoadModule {m}_module {APACHE_MODULES}/mod_{m}.so\n' for m in modules) + f'''
ServerRoot {dir}
ServerName {HOST}
Listen 127.0.0.1:{port}
{f'Listen {listen}' if listen else ''}
PidFile {dir}/pid
ErrorLog {dir}/error.log
LogLevel info
User www-data
Group www-data
DocumentRoot {dir}/htdocs
DirectoryIndex index.html
StartServers 2
<Directory {dir}/htdocs>
    AuthType GSSAPI
    AuthName sallyport
    GssapiCredStore keytab:{dir}/http.keytab
    GssapiLocalName Off
    GssapiConnectionBound {'On' if several_rounds else 'Off'}
    Require valid-user
    Header set X-User "expr=%{{REMOTE_USER}}"
</Directory>
''')
    clean = {k: v for k, v in os.environ.items() if not k.startswith(('KRB5', 'SALLYPORT', 'GSS'))}
    clean.update(KRB5_CONFIG=str(realm.krb5_conf()), KRB5RCACHEDIR=f'{dir}/replay')
    clean.update((k, str(v)) for k, v in env.items())
    server = Server(peer(root, 'apache2', '-f', dir / 'httpd.conf', '-DFOREGROUND'), dir / 'stderr.log', port, clean)
    server.port, server.url, server.dir, server.errors = port, f'http://{HOST}:{port}/', dir, dir / 'error.log'
    return server


def curl(server, env, *options, root='mit'):
    """What stock curl gets from such a server, with headers."""
    return run(peer(root, 'curl', '-sS', '-i', '--noproxy', '*', '--resolve', f'{HOST}:{server.port}:127.0.0.1', '--negotiate', '-u', ':',
                    *options, server.url), env=env)
