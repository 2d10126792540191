# SPDX-License-Identifier: MIT
"""The servers that bench/kdc measures: how each one's realm is made, started, asked and ended."""
import ctypes
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
PEERS = HERE.parent / 'tools' / 'peers'
REALM = 'BENCH.TEST'
KINDS = ('as-plain', 'as-ts', 'tgs')
TYPED_KINDS = ('as-ts', 'tgs')      # an answer without keys has no encryption type
FLOOR_OF = {'as-plain': 'echo', 'as-ts': 'as', 'tgs': 'tgs'}
FLOOR_REQUEST = {'as-plain': 160, 'as-ts': 238, 'tgs': 617}     # bytes on the wire, as the load generator makes them
SERVICES_FEW, SERVICES_MANY = 10, 1000
MIT_TYPES = {18: ('aes256-cts-hmac-sha1-96', 'aes128-cts-hmac-sha1-96'),
             20: ('aes256-cts-hmac-sha384-192', 'aes128-cts-hmac-sha256-128')}
OUR_TYPES = {18: '18 17 20 19', 20: '20 19 18 17'}
CLONE_NEWNET = 0x40000000


class Failure(Exception):
    pass


def command(*argv, env=None, **more):
    done = subprocess.run([str(a) for a in argv], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **more)
    if done.returncode != 0:
        raise Failure(f'{" ".join(str(a) for a in argv[:6])}: exit {done.returncode}\n{done.stdout[-500:]}{done.stderr[-2000:]}')
    return done.stdout


def enter_private_network():
    """This process and what it starts see a loopback of their own: no port is taken, and the kernel's counters are ours alone."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise Failure(f'cannot make a network namespace ({os.strerror(ctypes.get_errno())}): run it as root')
    command('ip', 'link', 'set', 'lo', 'up')


def network_counters():
    """TcpExt of /proc/net/netstat, of this process's network namespace."""
    lines = pathlib.Path('/proc/self/net/netstat').read_text(encoding='ascii').splitlines()
    names, values = [line.split()[1:] for line in lines if line.startswith('TcpExt:')]
    return dict(zip(names, map(int, values)))


def family(pid):
    """pid and its descendants, oldest first."""
    parents = {}
    for entry in pathlib.Path('/proc').iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / 'stat').read_text(errors='replace').rpartition(')')[2].split()[1])
            except OSError:
                pass
    out = [pid]
    for p in out:
        out += sorted(child for child, parent in parents.items() if parent == p)
    return out


class Server:
    """A process on its core, in a session of its own so that its children end with it. `peer`: the root of tools/peers it is
    entered through; `floor`: the name of the floor it is compared with."""

    def __init__(self, name, port, argv, users, peer=None, env=None, kinds=KINDS, etype=18, raw=False):
        self.name, self.port, self.argv, self.users = name, port, [str(a) for a in argv], users
        self.peer, self.env, self.kinds, self.etype, self.raw = peer, env, kinds, etype, raw
        self.floor = 'floor' if etype == 18 else f'floor-t{etype}'
        self.process = None

    def services(self):
        return SERVICES_FEW if self.users <= SERVICES_FEW else SERVICES_MANY

    def enter(self):
        return [str(PEERS), 'run', self.peer, '--'] if self.peer else []

    def start(self, stage, cores=None):
        self.log = open(stage.dir / f'{self.name}.out', 'w', encoding='utf-8')
        self.process = subprocess.Popen(['taskset', '-c', cores or stage.server_core, *self.enter(), *self.argv], env=self.env,
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True)
        self.wait(stage)

    def wait(self, stage):
        """Until it answers; the floor cannot be asked anything, and has the port once its database is filled."""
        for _ in range(300):
            if self.process.poll() is not None:
                break
            if self.raw and self.has_port():
                return
            if not self.raw and stage.ask(self, 'as-plain', 1, 1, 1).returncode == 0:
                return
            time.sleep(0.03)
        said = (stage.dir / f'{self.name}.out').read_text(errors='replace')[-1500:]
        raise Failure(f'{self.name} does not answer\n{said}')

    def has_port(self):
        return f':{self.port:04X} ' in pathlib.Path('/proc/self/net/udp').read_text(encoding='ascii')

    def stop(self):
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        self.process = None


class Stage:
    """A directory with the realms of all servers, each made when it is first wanted."""

    def __init__(self, build, cores, few, many, most, port=17000):
        self.build = pathlib.Path(build).resolve()
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix='sallyport-bench-'))
        self.server_core, self.client_core = cores.split(',')[:2]
        self.size = {'10': few, '100k': many, '1m': most}
        self.next_port = port
        self.made = {}

    def program(self, name):
        for where in ('bench', 'src/daemon', 'src/cli'):
            if (self.build / where / name).exists():
                return self.build / where / name
        raise Failure(f'{name} is not in {self.build}: meson setup -Dbench=true -Dbuildtype=release, then ninja')

    def port(self):
        self.next_port += 1
        return self.next_port

    def server(self, name):
        """By names as in the tables: floor[-10|-1m][-t20]/KIND, ours-SIZE[-counted|-untracked|-spake|-2w|-t20], mit-min|shipped-SIZE[-t20], heimdal-SIZE."""
        if name not in self.made:
            who, *words = name.partition('/')[0].split('-')
            etype = 20 if 't20' in words else 18
            make = {'floor': self.make_floor, 'ours': self.make_ours, 'mit': self.make_mit, 'heimdal': self.make_heimdal}[who]
            self.made[name] = make(name, words, etype)
        return self.made[name]

    def new_directory(self, name):
        where = self.dir / name.replace('/', '-')
        where.mkdir()
        return where

    def users_of(self, words):
        return next(self.size[w] for w in words if w in self.size)

    def accounts(self, form, how, users, etype):
        services = SERVICES_FEW if users <= SERVICES_FEW else SERVICES_MANY
        return [str(a) for a in (self.program('bench-accounts'), form, how, users, services, etype)]

    def make_floor(self, name, words, etype):
        shown, _, kind = name.partition('/')
        where, port = self.new_directory(name), self.port()
        users = self.users_of([*words, '100k'])
        argv = [self.program('bench-floor'), '--kind', FLOOR_OF[kind], '--dir', where, '--users', users, '--type', etype, '--port', port]
        return Server(shown, port, argv, users, kinds=(kind,), etype=etype, raw=True)

    def make_ours(self, name, words, etype):
        """The flood limit is how many records of one kind leave in a second; so high, every request leaves its own. The peers make no
        SPAKE challenge before anybody asked for one; `spake` does as our default does."""
        root, port, users = self.new_directory(name), self.port(), self.users_of(words)
        (root / 'etc/sallyport').mkdir(parents=True)
        (root / 'etc/sallyport/sallyport.conf').write_text(
            f'[kdc]\nlisten = 127.0.0.1:{port}\nlisten-kpasswd = none\nenctypes = {OUR_TYPES[etype]}\n'
            f'guess-limits = {"no" if "untracked" in words else "yes"}\n'
            f'spake-challenge = {"always" if "spake" in words else "on-support"}\n'
            f'[daemon]\nworkers = {2 if "2w" in words else 1}\nuser = root\n'
            f'[log]\ntarget = file\nflood = {100 if "counted" in words else 1_000_000}\n')
        env = dict(os.environ, SALLYPORT_ROOT=str(root))
        command(self.program('sallyport'), 'init', '--realm', REALM, env=env)
        command(*self.accounts('ours', root, users, etype), env=env)
        return Server(name, port, [self.program('sallyportd'), '--foreground', '--root', root], users, env=env, etype=etype)

    def make_mit(self, name, words, etype):
        """shipped: with tracking and a log; min: without either."""
        where, port, users = self.new_directory(name), self.port(), self.users_of(words)
        log, off = ('FILE:' + str(where / 'kdc.log'), 'false') if 'shipped' in words else ('FILE:/dev/null', 'true')
        types = ' '.join(f'{t}:normal' for t in MIT_TYPES[etype])
        (where / 'krb5.conf').write_text(f'[libdefaults]\n default_realm = {REALM}\n')
        (where / 'kdc.conf').write_text(
            f'[kdcdefaults]\n kdc_listen = 127.0.0.1:{port}\n kdc_tcp_listen = 127.0.0.1:{port}\n'
            f'[realms]\n {REALM} = {{\n  database_module = db\n  key_stash_file = {where}/stash\n  disable_pac = true\n'
            f'  max_life = 10h\n  supported_enctypes = {types}\n  master_key_type = aes256-cts-hmac-sha1-96\n }}\n'
            f'[dbmodules]\n db = {{\n  db_library = db2\n  database_name = {where}/principal\n'
            f'  disable_last_success = {off}\n  disable_lockout = {off}\n }}\n[logging]\n kdc = {log}\n')
        env = dict(os.environ, KRB5_CONFIG=str(where / 'krb5.conf'), KRB5_KDC_PROFILE=str(where / 'kdc.conf'))
        server = Server(name, port, ['krb5kdc', '-n'], users, peer='mit', env=env, etype=etype)
        tool = [*server.enter(), 'kdb5_util', '-r', REALM]
        command(*tool, 'create', '-s', '-P', 'bench', env=env)
        with open(where / 'accounts', 'w', encoding='ascii') as f:
            f.write('kdb5_util load_dump version 7\n')
            f.flush()
            subprocess.run(self.accounts('mit', 'bench', users, etype), stdout=f, check=True)
        command(*tool, 'load', '-update', where / 'accounts', env=env)
        return server

    def make_heimdal(self, name, words, etype):
        where, port, users = self.new_directory(name), self.port(), self.users_of(words)
        (where / 'krb5.conf').write_text(
            f'[libdefaults]\n default_realm = {REALM}\n[realms]\n {REALM} = {{\n }}\n'
            f'[kdc]\n num-kdc-processes = 1\n require-preauth = true\n database = {{\n  dbname = {where}/heimdal\n'
            f'  realm = {REALM}\n  log_file = {where}/log\n  acl_file = {where}/acl\n  mkey_file = {where}/mkey\n }}\n'
            f'[logging]\n kdc = 0/FILE:/dev/null\n')
        env = dict(os.environ, KRB5_CONFIG=str(where / 'krb5.conf'))
        kdc = ['/usr/lib/heimdal-servers/kdc', '--addresses=127.0.0.1', f'--ports={port}']
        server = Server(name, port, kdc, users, peer='heimdal', env=env, etype=etype)
        tool = [*server.enter(), 'kadmin', '-l']
        command(*tool, 'init', '--realm-max-ticket-life=unlimited', '--realm-max-renewable-life=unlimited', REALM, env=env)
        with open(where / 'accounts', 'w', encoding='ascii') as f:
            subprocess.run(self.accounts('heimdal', '-', users, etype), stdout=f, check=True)
        command(*tool, 'merge', where / 'accounts', env=env)
        return server

    # ---- asking ----

    def ask(self, server, kind, count, window, warmup, *more):
        argv = ['taskset', '-c', self.client_core, self.program('bench-load'), '--server', f'127.0.0.1:{server.port}',
                '--kind', kind, '--count', count, '--warmup', warmup, '--window', window, '--users', server.users,
                '--services', server.services(), '--type', server.etype, '--pid', server.process.pid, *more]
        if server.raw:
            argv += ['--raw', FLOOR_REQUEST[kind]]
        return subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)

    def load(self, server, kind, count, window, warmup, *more):
        """The load generator's figures; a lost or wrong reply is a failure."""
        done = self.ask(server, kind, count, window, warmup, *more)
        if done.returncode != 0:
            raise Failure(f'{server.name} {kind} window {window} {" ".join(more)}: {done.stdout}{done.stderr}')
        return done.stdout

    def close(self, keep):
        for server in self.made.values():
            server.stop()
        if keep:
            print(f'kept: {self.dir}')
        else:
            shutil.rmtree(self.dir, ignore_errors=True)
