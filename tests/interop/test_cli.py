# SPDX-License-Identifier: MIT
"""The command as scripts and people use it: exit statuses, JSON, errors that say what to do. No daemon is needed."""
import errno
import fcntl
import json
import os
import pathlib
import pty
import pwd
import re
import select
import shutil
import signal
import stat
import subprocess
import time

import pytest

import harness
from harness import PASSWORD, REALM, SALLYPORT, TOP, ask_on_terminal, converse

OTHER = harness.OTHER_PASSWORD


class Answer:
    def __init__(self, done):
        self.code = done.returncode
        self.raw = done.stdout
        self.out = done.stdout.decode(errors='replace')
        self.err = done.stderr.decode(errors='replace')

    def ok(self):
        assert self.code == 0, f'exit status {self.code}: {self.out}{self.err}'
        assert self.err == ''
        return self.out

    def json(self):
        return json.loads(self.ok())

    def fails(self, code, pattern=''):
        """One line, on standard error, that says what and what to do."""
        assert self.code == code, f'exit status {self.code}: {self.out}{self.err}'
        assert self.out == ''
        assert re.fullmatch(r'sallyport: [^\n]+; [^\n]+\n', self.err), self.err
        assert re.search(pattern, self.err), self.err
        return self.err


def call(*argv, stdin='', env=None):
    clean = {k: v for k, v in os.environ.items() if k != 'SALLYPORT_ROOT'}
    data = stdin if isinstance(stdin, bytes) else stdin.encode()
    return Answer(subprocess.run([SALLYPORT, *map(str, argv)], input=data, capture_output=True, timeout=120,
                                 env=dict(clean, **(env or {})), start_new_session=True))


class Instance:
    def __init__(self, root):
        self.root = root

    def __call__(self, *argv, **more):
        return call('--root', self.root, *argv, **more)

    def add(self, name, *options, password=PASSWORD):
        return self('account', 'add', name, '--password-stdin', *options, stdin=password + '\n')


def make(root):
    it = Instance(root)
    it('init', '--realm', REALM).ok()
    return it


@pytest.fixture(scope='module')
def shared(tmp_path_factory):
    return make(tmp_path_factory.mktemp('cli'))


@pytest.fixture
def one(tmp_path):
    return make(tmp_path / 'root')


def commands():
    try:
        return json.loads(subprocess.run([SALLYPORT, 'help', '--json'], capture_output=True, timeout=30).stdout)['commands']
    except (OSError, ValueError):
        return []


TREE = commands()
PATHS = [c['path'] for c in TREE]


def test_the_tree_is_the_design_s():
    for path in ('init', 'account add', 'account passwd', 'account show', 'account list', 'account disable', 'account enable',
                 'account unlock', 'account delete', 'account keys', 'account alias', 'account export', 'account import',
                 'service add', 'service keytab', 'service rotate', 'service list', 'service delete', 'status', 'config check',
                 'config show', 'client-config', 'backup', 'krbtgt rotate', 'login', 'gss serve', 'gss connect', 'doctor',
                 'version'):
        assert path in PATHS


# ---- help, usage ----

@pytest.mark.parametrize('path', [''] + PATHS + sorted({p.split()[0] for p in PATHS if ' ' in p}))
def test_help_everywhere(path):
    words = path.split()
    text = call(*words, '--help').ok()
    assert text.startswith('usage: sallyport ' + path) and '--root DIR' in text and '--json' in text
    assert call('help', *words).ok() == text
    assert call(*words, '-h').ok() == text
    assert json.loads(call(*words, '--help', '--json').ok())['commands']


def test_help_of_a_verb_names_every_option():
    for c in TREE:
        text = call(*c['path'].split(), '--help').ok()
        for o in c['options']:
            assert f'--{o["name"]}' in text and o['help'] in text


@pytest.mark.parametrize('argv, pattern', [
    ([], 'needs a command'),
    (['acount'], "did you mean 'account'"),
    (['account'], 'account needs a command behind it'),
    (['account', 'ad', 'x'], "did you mean 'account add'"),
    (['frobnicate'], "see 'sallyport --help'"),
    (['account', 'add'], "'account add' needs NAME"),
    (['account', 'add', ''], 'NAME is empty'),
    (['account', 'add', 'x', 'secret'], 'a password is never an argument'),
    (['account', 'add', 'x', '--password', 'secret'], 'every user here could read it; use --password-stdin'),
    (['account', 'add', 'x', '--password=secret'], 'use --password-stdin'),
    (['account', 'add', 'x', '--pasword-stdin'], 'did you mean --password-stdin'),
    (['account', 'add', 'x', '--password-stdin=y'], 'takes no value'),
    (['account', 'add', 'x', '--salt'], 'needs RULE'),
    (['account', 'add', 'x', '--salt', '--alias'], 'needs RULE'),
    (['account', 'add', 'x', '--salt', 'a', '--salt', 'b'], 'given twice'),
    (['account', 'add', 'x', '--expires', '2027-02-30'], 'does not read so'),
    (['account', 'add', 'x', '--expires', '2027-02-03T1:00:00Z'], 'does not read so'),
    (['account', 'add', 'x', '--expires', '1969-12-31'], 'does not read so'),
    (['account', 'add', 'x', '--expires', '1970-01-01'], 'does not read so'),      # would read as never
    (['account', 'add', 'x', '--enctypes', 'aes'], 'does not read so'),
    (['account', 'add', 'x', '--enctypes', '18,,17'], 'does not read so'),
    (['account', 'add', 'x', '--enctypes', ''], 'enctypes is empty'),
    (['account', 'add', 'x', '--salt', ''], 'salt is empty'),
    (['account', 'add', 'x', '--salt='], 'salt is empty'),
    (['account', 'add', 'x', '--alias', ''], 'alias is empty'),
    (['account', 'add', 'x', '--comment', os.fsdecode(b'gr\xfcn')], 'comment is not UTF-8'),
    (['account', 'add', os.fsdecode(b'gr\xfcn')], 'NAME is not UTF-8'),
    (['account', 'add', 'x'], 'pipe it in with --password-stdin'),
    (['account', 'alias', 'x'], 'nothing to do'),
    (['account', 'list', 'x'], 'takes no name'),
    (['account', 'list', '-x'], 'two dashes'),
    (['account', 'import', '-', '--passphrase-stdin'], 'cannot be both'),
    (['service', 'add', 'host/x', '--life', '3w'], 'does not read so'),
    (['service', 'keytab', 'host/x'], 'say --out FILE'),
    (['service', 'keytab', 'host/x', '--out', '-', '--owner', 'root'], 'has no owner'),
    (['service', 'keytab', 'host/x', '--out', ''], 'out is empty'),
    (['client-config', '--for', 'plan9'], 'windows and macos'),
    (['client-config', '--relay', 'http://relay.test'], 'relay does not read so'),
    (['client-config', '--relay', 'https://'], 'relay does not read so'),
    (['client-config', '--relay', 'https://relay.test:0/KdcProxy'], 'relay does not read so'),
    (['client-config', '--relay', 'https://relay.test/a b'], 'relay does not read so'),
    (['client-config', '--relay', 'https://relay.test', '--kdc', '192.0.2.1'], 'two ways for a client'),
    (['client-config', '--ca', '/etc/ssl/ca.pem'], 'say --relay URL too'),
    (['client-config', '--relay', 'https://relay.test', '--ca', 'a b'], 'of a file on the client'),
    (['--root'], 'needs DIR'),
    (['--root=', 'status'], 'root is empty'),
    (['--realm', 'X', 'init'], 'options of a command go behind it'),
])
def test_usage(argv, pattern, tmp_path):
    call(*argv).fails(2, pattern)


def test_errors_as_json(shared):
    for argv, code, kind in [(['account', 'shwo', 'x'], 2, 'input'), (['account', 'show', 'nobody'], 3, 'not found'),
                             (['account', 'delete', 'nobody'], 1, 'refused')]:
        for where in (['--json', *argv], [*argv, '--json']):
            answer = shared(*where)
            assert answer.code == code and answer.err == ''
            error = json.loads(answer.out)['error']
            assert error['kind'] == kind and error['text'] and error['status'] == code
            assert ';' in error['text'] or error['advice'], error


def test_root_by_option_or_environment(shared):
    want = shared('account', 'list', '--json').json()
    assert call('account', 'list', '--json', env={'SALLYPORT_ROOT': str(shared.root)}).json() == want
    assert call('account', 'list', '--json', f'--root={shared.root}').json() == want
    assert call('account', '--root', shared.root, 'list', '--json',
                env={'SALLYPORT_ROOT': '/nonexistent'}).json() == want


# ---- instance ----

def test_init_is_idempotent(one):
    first = one('account', 'keys', f'krbtgt/{REALM}', '--show-secret', '--json').json()
    again = one('init', '--realm', REALM, '--json').json()
    assert again['realm'] == REALM and again['created'] is False
    assert 'nothing was changed' in one('init').ok()
    assert one('account', 'keys', f'krbtgt/{REALM}', '--show-secret', '--json').json() == first
    one('init', '--realm', 'ELSEWHERE').fails(4)


def test_init_says_what_comes_next(tmp_path):
    text = Instance(tmp_path / 'r')('init', '--realm', REALM).ok()
    assert f'realm {REALM} is made' in text and f'sallyport --root {tmp_path / "r"} account add NAME' in text
    made = Instance(tmp_path / 'r2')('init', '--realm', REALM, '--json').json()
    assert made['created'] is True and made['realm'] == REALM


def test_nothing_here_says_init(tmp_path):
    for argv in (['account', 'list'], ['status'], ['service', 'list'], ['client-config']):
        Instance(tmp_path)(*argv).fails(3, 'init')


def test_advice_holds_the_root(tmp_path):
    """It can be typed as it stands; a root that is too long for that is at least not forgotten."""
    Instance(tmp_path)('account', 'list').fails(3, f'run `sallyport --root {re.escape(str(tmp_path))} init`' if len(str(tmp_path)) <= 64
                                                else 'with the same --root')
    long = tmp_path / ('x' * 200)
    long.mkdir()
    Instance(long)('account', 'list').fails(3, r'\.\.\..*no instance here; run `sallyport init` with the same --root')
    make(long)
    (long / 'var/lib/sallyport/master.key').chmod(0o644)
    Instance(long)('account', 'list').fails(1, r'others may read it \(mode 0644\); chmod 600 it')


def test_what_is_lost_is_not_made_again(one):
    data = one.root / 'var/lib/sallyport/accounts/data.mdb'
    keep = data.read_bytes()
    data.write_bytes(keep[:3 * 4096])     # the last pages alone may be free ones
    one('account', 'list').fails(1, 'data.mdb: its end is missing; copy it back from a backup')
    data.write_bytes(b'')
    one('account', 'list').fails(1, 'data.mdb: is empty; copy it back from a backup')
    one('init', '--realm', REALM).fails(1, 'the accounts are gone; copy')
    data.unlink()
    one('init', '--realm', REALM).fails(1, 'the accounts are gone; copy')
    data.write_bytes(keep)
    one('account', 'list').ok()


def test_half_an_instance_says_what_is_missing(one):
    shutil.rmtree(one.root / 'var/lib/sallyport/activity')
    one('status').fails(3, 'activity.*restore a backup')
    one('account', 'list').fails(3, 'activity.*restore a backup')
    (one.root / 'var/lib/sallyport/master.key').rename(one.root / 'key')
    one('status').fails(1, 'master key is gone; restore it')
    (one.root / 'var/lib/sallyport/master.key').write_bytes(b'short')
    (one.root / 'var/lib/sallyport/master.key').chmod(0o600)
    one('status').fails(1, '32 bytes')


def test_a_file_where_a_directory_belongs(one, tmp_path):
    file = tmp_path / 'file'
    file.write_text('mine')
    for argv in (['init', '--realm', REALM], ['status'], ['account', 'list']):
        Instance(file)(*argv).fails(2, 'is no directory; name one with --root')
    Instance(file / 'below')('init', '--realm', REALM).fails(1)
    one('backup', file).fails(1)
    one('service', 'add', 'host/x').ok()
    one('service', 'keytab', 'host/x', '--out', file / 'k').fails(1, 'make its directory first')
    one('service', 'keytab', 'host/x', '--out', tmp_path / 'no' / 'k').fails(1, 'make its directory first')
    one('service', 'keytab', 'host/x', '--out', tmp_path).fails(1, 'no regular file')
    assert file.read_text() == 'mine' and sorted(p.name for p in tmp_path.iterdir()) == ['file', 'root']


@pytest.fixture
def small(tmp_path):
    """A disk of one megabyte."""
    if os.geteuid() != 0:
        pytest.skip('needs root to mount one')
    at = tmp_path / 'small'
    at.mkdir()
    subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', at], check=True)
    yield at
    subprocess.run(['umount', at], check=True)


def fill(disk):
    with open(disk / 'ballast', 'wb', buffering=0) as f:
        try:
            while True:
                f.write(bytes(4096))
        except OSError as e:
            assert e.errno == errno.ENOSPC


def test_a_full_disk(small, tmp_path):
    it = Instance(small / 'root')
    fill(small)
    it('init', '--realm', REALM).fails(1, 'no room|No space')
    it('status').fails(3, 'init')
    (small / 'ballast').unlink()
    it('init', '--realm', REALM).ok()
    it.add('alice').ok()
    it('service', 'add', 'host/x').ok()
    keys = it('account', 'keys', 'alice', '--show-secret', '--json').json()
    fill(small)
    refused = None
    for i in range(400):        # the store reuses pages that it has
        refused = it.add(f'user{i}', '--comment', 'c' * 1000)
        if refused.code:
            break
    refused.fails(1, 'no room')
    it('account', 'show', f'user{i}').fails(3)
    it('service', 'keytab', 'host/x', '--out', small / 'k').fails(1, 'No space left.*make room; nothing was changed')
    it('backup', small / 'copy').fails(1)
    assert it('account', 'keys', 'alice', '--show-secret', '--json').json() == keys
    assert [p.name for p in small.iterdir() if p.name.startswith('k')] == []
    (small / 'ballast').unlink()
    it.add(f'user{i}').ok()


def test_killed_in_the_middle(tmp_path):
    """Whatever the moment: init can be said again, and an account is there as a whole or not at all."""
    word = tmp_path / 'word'
    word.write_text(PASSWORD)

    def killed(after, *argv):
        with open(word) as stdin:
            child = subprocess.Popen([SALLYPORT, *map(str, argv)], stdin=stdin, stdout=subprocess.DEVNULL,
                                     stderr=subprocess.DEVNULL)
            time.sleep(after)
            child.kill()
            return child.wait() == -signal.SIGKILL
    for i in range(15):
        it = Instance(tmp_path / f'r{i}')
        killed(i * 0.002, '--root', it.root, 'init', '--realm', REALM)
        it('init', '--realm', REALM).ok()
        assert it('status', '--json').json()['realm'] == REALM
    began = time.monotonic()
    it.add('whole').ok()
    took = time.monotonic() - began
    ends = []
    for i in range(40):
        ends.append(killed(took * i / 25, '--root', it.root, 'account', 'add', f'u{i}', '--password-stdin'))
        shown = it('account', 'show', f'u{i}', '--json')
        assert shown.code in (0, 3), shown.out
        if shown.code == 0:
            assert len(it('account', 'keys', f'u{i}', '--show-secret', '--json').json()['keys']) == 4
        else:
            it.add(f'u{i}').ok()
    assert ends.count(True) > 5, f'too few were killed, {took:.3f} s'


def test_status_without_a_daemon(shared):
    status = shared('status', '--json').json()
    assert status['realm'] == REALM and status['daemon'] is False
    assert 'No sallyportd runs here' in shared('status').ok()
    shared('status', '--require-daemon').fails(6, 'no sallyportd runs')


def test_guess_limits_off_is_shouted(one):
    assert 'WARNING' not in one('status').ok()
    (one.root / 'etc/sallyport/conf.d').mkdir(parents=True, exist_ok=True)
    (one.root / 'etc/sallyport/conf.d/x.conf').write_text('[kdc]\nguess-limits = off\n')
    assert re.search('WARNING: .*guess-limits', one('status').ok())


def test_version():
    text = call('version').ok()
    assert re.fullmatch(r'sallyport \d+\.\d+\.\d+\n', text) and call('--version').ok() == text
    assert call('version', '--json').json() == {'version': text.split()[1]}


# ---- configuration ----

def test_config_check(one):
    one('config', 'check').ok()
    assert one('config', 'check', '--json').json()['ok'] is True


@pytest.mark.parametrize('text, line, pattern', [
    ('[kdc]\n# fine\nskwe = 300\n', 3, 'skwe'),
    ('[kcd]\nsalt = default\n', 2, 'kcd'),
    ('\n[kdc]\nsalt = pepper\n', 3, 'pepper'),
    ('[kdc]\nlifetimes = long\n', 2, 'standard'),
])
def test_wrong_configuration_names_file_and_line(one, text, line, pattern):
    file = one.root / 'etc/sallyport/conf.d/bad.conf'
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    error = one('config', 'check')
    assert error.code == 2 and pattern in error.err
    assert re.search(rf'bad\.conf:{line}\b', error.err), error.err


def test_every_setting_is_in_the_manual_page(shared):
    settings = shared('config', 'show', '--json').json()['settings']
    assert len(settings) > 20
    page = (TOP / 'man/sallyport.conf.5').read_text()
    told = set()
    section = None
    for line in page.splitlines():
        if m := re.match(r'\.Ss Sections? \[([\w ]+)\]', line):
            section = m[1]
        elif m := re.match(r'\.It Cm (\S+)', line):
            told.add((section, m[1]))
    keys = {(s['section'], s['key']) for s in settings}
    table = re.search(r'rows\[\] = \{(.*?)\n\};', (TOP / 'src/admin/realms.c').read_text(), re.S)[1]
    keys |= {('realm NAME', key) for key in re.findall(r'\{"([\w-]+)",', table)}
    assert keys - told == set(), 'not in sallyport.conf(5)'
    assert told - keys == set(), 'in sallyport.conf(5), but not known'


def test_defaults_in_the_manual_page_are_those_of_the_program(one):
    """Where the page says a value behind "Default:", it is the one that `config show` has."""
    page = (TOP / 'man/sallyport.conf.5').read_text()
    values = {(s['section'], s['key']): s['value'] for s in one('config', 'show', '--json').json()['settings']}
    units = {'s': 1, 'm': 60, 'h': 3600, 'd': 86400}

    def plain(text):
        m = re.fullmatch(r'(\d+)([smhd])', text)
        return str(int(m[1]) * units[m[2]]) if m else text
    section = key = None
    told = {}
    for block in re.split(r'^(?=\.Ss|\.It Cm)', page, flags=re.M):
        if m := re.match(r'\.Ss Sections? \[([\w ]+)\]', block):
            section = m[1]
        elif m := re.match(r'\.It Cm (\S+)', block):
            key = m[1]
            assert 'Default:' in block or '(the default)' in block, key
            if d := re.search(r'^Default:\s*(?:\.(?:Cm|Ql)\s+)?([^.\n]+?)(?: bytes)?\s*\.?$', block, re.M):
                told[section, key] = d[1].strip()
    assert len(told) > 25
    for at, text in told.items():
        if text in ('by profile', 'none') or text.startswith('what was said') or text.startswith('loopback'):
            continue
        if at[0] == 'realm NAME':       # of a section that is not there, nothing is shown
            continue
        assert plain(text.split()[0]) == plain(values[at].split()[0]), at


def test_the_example_configuration_holds_the_defaults(one):
    def settings():
        return {(s['section'], s['key']): s['value'] for s in one('config', 'show', '--json').json()['settings']}
    before = settings()
    text = re.sub(r'^#(?=[a-z-]+ = )', '', (TOP / 'dist/sallyport.conf.example').read_text(), flags=re.M)
    assert text.count(' = ') > 10
    (one.root / 'etc/sallyport/sallyport.conf').write_text(text)
    after = settings()
    assert after.pop(('realm', 'aliases')) == 'corp.example' and before.pop(('realm', 'aliases')) == 'none'
    assert after == before


def test_config_show_says_where_from(one):
    file = one.root / 'etc/sallyport/conf.d/x.conf'
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('[kdc]\nlifetimes = windows-like\n')
    rows = {(s['section'], s['key']): s for s in one('config', 'show', '--json').json()['settings']}
    assert rows['kdc', 'lifetimes']['value'] == 'windows-like'
    assert rows['kdc', 'lifetimes']['source'].endswith('x.conf:2')
    assert rows['kdc', 'guess-limits']['source'] == 'default'
    assert re.search(r'kdc +lifetimes +windows-like +\S*x\.conf:2\n', one('config', 'show').ok())


# ---- accounts ----

def test_account_life(one):
    one.add('alice', '--alias', 'al', '--comment', 'first', '--expires', '2037-01-31T12:00:00Z').ok()
    one.add('alice').fails(4)
    one.add('al').fails(4)
    shown = one('account', 'show', 'alice', '--json').json()['account']
    assert shown['name'] == 'alice' and 'al' in str(shown['aliases']) and shown['comment'] == 'first'
    assert shown['expires'].startswith('2037-01-31T12:00:00')
    assert one('account', 'show', 'al', '--json').json()['account']['id'] == shown['id']
    assert one('account', 'show', f'alice@{REALM}', '--json').json()['account']['id'] == shown['id']
    assert re.search(r'^created +20\d\d-\d\d-\d\dT', one('account', 'show', 'alice').ok(), re.M)
    one('account', 'disable', 'alice').ok()
    assert 'disabled' in str(one('account', 'show', 'alice', '--json').json()['account']['flags'])
    one('account', 'enable', 'alice').ok()
    assert 'disabled' not in str(one('account', 'show', 'alice', '--json').json()['account']['flags'])
    one('account', 'unlock', 'alice').ok()
    one('account', 'alias', 'alice', '--add', 'ally', '--remove', 'al').ok()
    one('account', 'show', 'al').fails(3)
    one('account', 'show', 'ally').ok()
    one('account', 'passwd', 'alice', '--password-stdin', stdin=OTHER + '\n').ok()
    after = one('account', 'show', 'alice', '--json').json()['account']
    assert after['generation'] > shown['generation'] and after['kvno'] == shown['kvno'] + 1
    one('account', 'delete', 'alice').fails(1, '--yes')
    one('account', 'delete', 'alice', '--yes').ok()
    one('account', 'show', 'alice').fails(3)
    for verb in ('disable', 'enable', 'unlock', 'show'):
        one('account', verb, 'alice').fails(3)
    one('account', 'delete', 'alice', '--yes').fails(3)


@pytest.mark.parametrize('name', ['alice', 'nas1$', 'alice@corp.example', f'carol@{REALM}', 'jürgen', '-dash'])
def test_names_in_any_form(one, name):
    argv = ['account', 'add', '--password-stdin', '--', name]
    one(*argv, stdin=PASSWORD + '\n').ok()
    one('account', 'show', '--', name).ok()
    one('account', 'delete', '--yes', '--', name).ok()


def test_list_is_a_table(one):
    one.add('alice').ok()
    one.add('bob').ok()
    lines = one('account', 'list').ok().splitlines()
    assert lines[0].startswith('NAME')
    column = lines[0].index('KIND')
    for name in ('alice', 'bob'):
        line, = [row for row in lines if row.startswith(name + ' ')]
        assert line[column - 1] == ' ' and line[column] != ' '
    listed = one('account', 'list', '--json').json()['accounts']
    assert {'alice', 'bob'} <= {a['name'] for a in listed}
    assert all(re.match(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d', a['created']) for a in listed)


def test_services_have_the_same_table(one):
    one.add('alice').ok()
    one('service', 'add', 'host/nas1.test', '--alias', '192.0.2.7').ok()
    accounts, services = (one(kind, 'list').ok().splitlines() for kind in ('account', 'service'))
    assert accounts[0].split() == services[0].split() == ['NAME', 'KIND', 'FLAGS', 'KVNO', 'TYPES', 'CHANGED', 'ALIASES']
    assert services[1].split()[:4] == ['host/nas1.test', 'service', '-', '1'] and 'host/192.0.2.7' in services[1]
    assert accounts[1].split()[:4] == ['alice', 'user', '-', '1'] and len(accounts) == len(services) == 2


def test_hostile_text_is_shown_escaped(one):
    one.add('mallory', '--comment', '\x1b[31mred\x07\u009b2J').ok()
    shown = one('account', 'show', 'mallory')
    assert b'\x1b' not in shown.raw and b'\x07' not in shown.raw and rb'\x1b[31mred\x07' in shown.raw
    missing = one('account', 'show', 'no\x1b]0;title\x07body')
    assert missing.code in (2, 3) and '\x1b' not in missing.err and '\x07' not in missing.err
    assert '\x1b' not in one('no\x1bcommand').fails(2) and '\x1b' not in one('status', '--o\x1bption').fails(2)


def test_passwords(one):
    one.add('short', password='abc').fails(1)
    one.add('empty', password='').fails(2, 'is empty')
    one('account', 'add', 'nul', '--password-stdin', stdin=b'abc\0defghijklmnop\n').fails(2, 'NUL')
    one('account', 'add', 'latin', '--password-stdin', stdin=b'gr\xfcn-und-lang-genug\n').fails(2, 'UTF-8')
    one('account', 'add', 'long', '--password-stdin', stdin='x' * 2000).fails(2, 'longer')
    one.add('carol-whose-name', password='carol-whose-name-1').fails(1)
    assert not {'short', 'empty', 'nul', 'latin', 'long'} & {a['name'] for a in one('account', 'list', '--json').json()['accounts']}


def test_password_newline_is_cut(one):
    salt = ['--salt', 'the same salt']
    one('account', 'add', 'a', '--password-stdin', *salt, stdin=PASSWORD + '\nnext line\n').ok()
    one('account', 'add', 'b', '--password-stdin', *salt, stdin=PASSWORD).ok()
    one('account', 'add', 'c', '--password-stdin', *salt, stdin=PASSWORD + ' \n').ok()
    a, b, c = [[k['key'] for k in one('account', 'keys', n, '--show-secret', '--json').json()['keys']] for n in 'abc']
    assert a == b != c


def test_password_asked_for_on_a_terminal(one):
    argv = [SALLYPORT, '--root', one.root, 'account', 'add', 'typed']
    said = converse(argv, [('New password: ', PASSWORD), ('Once more: ', PASSWORD)])
    assert said.code == 0 and PASSWORD not in said.text, said.text
    said = converse([*argv[:-1], 'typo'], [('New password: ', PASSWORD), ('Once more: ', OTHER)])
    assert said.code == 2 and 'the two differ' in said.text and OTHER not in said.text
    said = converse([SALLYPORT, '--root', one.root, 'account', 'delete', 'typed'], [('Type yes: ', 'no')])
    assert said.code == 1 and 'not confirmed' in said.text
    one('account', 'show', 'typed').ok()
    said = converse([SALLYPORT, '--root', one.root, 'account', 'delete', 'typed'], [('Type yes: ', 'yes')])
    assert said.code == 0, said.text
    one('account', 'show', 'typed').fails(3)


def ask(one, act):
    return ask_on_terminal([SALLYPORT, '--root', one.root, 'account', 'add', 'asked'], 'New password: ', act)


@pytest.mark.parametrize('act, code, text', [
    (lambda pid, fd: os.write(fd, b'\x03'), -signal.SIGINT, 'interrupted; nothing was changed'),
    (lambda pid, fd: os.write(fd, b'half a pass\x03'), -signal.SIGINT, 'interrupted; nothing was changed'),
    (lambda pid, fd: os.write(fd, b'\x1c'), -signal.SIGQUIT, 'interrupted; nothing was changed'),
    (lambda pid, fd: os.kill(pid, signal.SIGTERM), -signal.SIGTERM, 'interrupted; nothing was changed'),
    (lambda pid, fd: os.kill(pid, signal.SIGHUP), -signal.SIGHUP, 'interrupted; nothing was changed'),
    (lambda pid, fd: os.write(fd, b'\x04'), 2, 'the password is empty'),
    (lambda pid, fd: os.write(fd, b'\n'), 2, 'the password is empty'),
], ids=['control-C', 'half-way', 'control-backslash', 'SIGTERM', 'SIGHUP', 'control-D', 'return'])
def test_a_question_that_is_not_answered(one, act, code, text):
    status, said, echo = ask(one, act)
    assert status == code and text in said and echo, (status, said, echo)
    assert said.count('sallyport:') == 1 and 'half a pass' not in said
    one('account', 'show', 'asked').fails(3)


def test_control_z_at_a_question_does_nothing(one):
    status, said, echo = ask(one, lambda pid, fd: os.write(fd, b'\x1a\x03'))
    assert status == -signal.SIGINT and echo and 'interrupted' in said


def test_keys(one):
    one.add('alice').ok()
    one('service', 'add', 'host/nas1').ok()
    one('account', 'keys', 'alice').fails(1, '--show-secret')
    assert one('account', 'keys', 'alice', '--json').code == 1
    sizes = {17: 16, 18: 32, 19: 16, 20: 32}
    for name, salt in (('alice', REALM + 'alice'), ('host/nas1', None), (f'krbtgt/{REALM}', None)):
        keys = one('account', 'keys', name, '--show-secret', '--json').json()['keys']
        assert {k['etype'] for k in keys} == {17, 18, 19, 20}
        for k in keys:
            assert len(bytes.fromhex(k['key'])) == sizes[k['etype']] and k['kvno'] == 1
            assert k.get('salt') == salt if salt else not k.get('salt')
    text = one('account', 'keys', 'alice', '--show-secret').ok()
    assert all(k['key'] in text for k in one('account', 'keys', 'alice', '--show-secret', '--json').json()['keys'])


# ---- services ----

def test_service_life(one):
    one('service', 'add', 'host/nas1.test', '--alias', '192.0.2.7', '--life', '1h').ok()
    one('service', 'add', 'host/nas1.test').fails(4)
    one('service', 'add', 'noslash').fails(2)
    listed, = [s for s in one('service', 'list', '--json').json()['services'] if s['name'] == 'host/nas1.test']
    assert '192.0.2.7' in str(listed['aliases'])
    assert 'host/nas1.test' in one('service', 'list').ok()
    before = one('account', 'keys', 'host/nas1.test', '--show-secret', '--json').json()['keys']
    one('service', 'rotate', 'host/nas1.test').ok()
    after = one('account', 'keys', 'host/nas1.test', '--show-secret', '--json').json()['keys']
    assert max(k['kvno'] for k in after) == 2 and not {k['key'] for k in before} & {k['key'] for k in after if k['kvno'] == 2}
    one('service', 'delete', 'host/nas1.test').fails(1, '--yes')
    one('service', 'delete', 'host/nas1.test', '--yes').ok()
    one('service', 'keytab', 'host/nas1.test', '--out', one.root / 'x').fails(3)
    assert not (one.root / 'x').exists()


def keytab_entries(data):
    """(principal, kvno, etype, key) of the format that MIT documents, version 2."""
    assert data[:2] == b'\x05\x02'
    at, found = 2, []
    while at < len(data):
        n = int.from_bytes(data[at:at + 4], 'big', signed=True)
        rec, at = data[at + 4:at + 4 + abs(n)], at + 4 + abs(n)
        if n < 0:
            continue
        pos = 0

        def number(size):
            nonlocal pos
            pos += size
            return int.from_bytes(rec[pos - size:pos], 'big')

        def text():
            nonlocal pos
            size = number(2)
            pos += size
            return rec[pos - size:pos]
        count = number(2)
        realm, parts = text(), []
        for _ in range(count):
            parts.append(text())
        number(4), number(4)
        kvno, etype = number(1), number(2)
        key = text()
        if len(rec) - pos >= 4:
            kvno = number(4) or kvno
        found.append((b'/'.join(parts).decode() + '@' + realm.decode(), kvno, etype, key.hex()))
    return found


def test_keytab(one, tmp_path):
    one('service', 'add', 'host/nas1.test', '--alias', '192.0.2.7').ok()
    file = tmp_path / 'k.keytab'
    one('service', 'keytab', 'host/nas1.test', '--out', file).ok()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith('k.keytab')] == ['k.keytab']
    entries = keytab_entries(file.read_bytes())
    keys = {(k['etype'], k['kvno'], k['key']) for k in one('account', 'keys', 'host/nas1.test', '--show-secret', '--json').json()['keys']}
    assert {(e[2], e[1], e[3]) for e in entries} == keys
    names = {e[0] for e in entries}
    assert {f'host/nas1.test@{REALM}', f'host/nas1@{REALM}', f'host/192.0.2.7@{REALM}'} <= names
    assert one('service', 'keytab', 'host/nas1.test', '--out', '-').raw == file.read_bytes()
    file.chmod(0o644)
    one('service', 'keytab', 'host/nas1.test', '--out', file).ok()      # again: same keys, private again
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and keytab_entries(file.read_bytes()) == entries


def test_keytab_has_one_reader(one, tmp_path):
    one('service', 'add', 'host/nas1.test').ok()
    keytab = ['service', 'keytab', 'host/nas1.test', '--out']
    one(*keytab, tmp_path / 'k', '--owner', 'no-such-user').fails(3, 'no user')
    target = tmp_path / 'elsewhere'
    target.write_text('mine')
    (tmp_path / 'link').symlink_to(target)
    one(*keytab, tmp_path / 'link').fails(1, 'no regular file')
    assert target.read_text() == 'mine'
    one(*keytab, tmp_path / 'no/such/dir/k').fails(1)
    if os.geteuid() != 0:
        return
    one(*keytab, tmp_path / 'k', '--owner', 'nobody').ok()
    assert (tmp_path / 'k').stat().st_uid == pwd.getpwnam('nobody').pw_uid
    one(*keytab, tmp_path / 'k').fails(1, 'two readers')
    one(*keytab, tmp_path / 'k', '--owner', 'nobody').ok()


# ---- moving, keeping ----

def test_export_and_import(one, tmp_path):
    one.add('alice', '--alias', 'al', '--comment', 'kept').ok()
    one('service', 'add', 'host/nas1.test').ok()
    file = tmp_path / 'accounts.txt'
    out = one('account', 'export', '--passphrase-stdin', '--out', file, stdin='a long passphrase\n').ok()
    assert str(file) in out and stat.S_IMODE(file.stat().st_mode) == 0o600
    text = file.read_text()
    keys = one('account', 'keys', 'alice', '--show-secret', '--json').json()['keys']
    assert not any(k['key'] in text for k in keys) and 'alice' not in text
    to = make(tmp_path / 'second')
    to('account', 'import', file, '--passphrase-stdin', stdin='another passphrase\n').fails(1)
    to('account', 'show', 'alice').fails(3)
    broken = tmp_path / 'broken'
    middle = len(text) * 2 // 3
    broken.write_text(text[:middle] + ('A' if text[middle] != 'A' else 'B') + text[middle + 1:])
    assert to('account', 'import', broken, '--passphrase-stdin', stdin='a long passphrase\n').code in (1, 2)
    to('account', 'show', 'alice').fails(3)
    taken = to('account', 'import', file, '--passphrase-stdin', '--json', stdin='a long passphrase\n').json()
    assert taken['imported'] >= 2
    assert to('account', 'keys', 'alice', '--show-secret', '--json').json()['keys'] == keys
    assert to('account', 'show', 'al', '--json').json()['account']['comment'] == 'kept'
    again = to('account', 'import', file, '--passphrase-stdin', '--json', stdin='a long passphrase\n').json()
    assert again['imported'] == 0 and 'alice' in str(again['skipped'])
    to('account', 'passwd', 'alice', '--password-stdin', stdin=OTHER + '\n').ok()
    to('account', 'import', file, '--passphrase-stdin', '--replace', stdin='a long passphrase\n').ok()
    now = to('account', 'keys', 'alice', '--show-secret', '--json').json()['keys']
    assert {k['key'] for k in keys} <= {k['key'] for k in now}
    to('account', 'import', tmp_path / 'absent', '--passphrase-stdin', stdin='a long passphrase\n').fails(3, 'no file')


def test_backup(one, tmp_path):
    one.add('alice').ok()
    (tmp_path / 'copy').mkdir()
    before = os.getcwd()
    os.chdir(tmp_path)
    try:
        one('backup', 'copy').ok()      # relative to whoever asks, not to whoever does it
    finally:
        os.chdir(before)
    assert any(p.is_file() and p.stat().st_size for p in (tmp_path / 'copy').rglob('*'))


def test_a_restored_backup_and_its_tickets(one, tmp_path):       # T128
    """The copy opens with its key; krbtgt's keys of before are gone after the re-key that a restore asks for."""
    one.add('alice').ok()
    one('backup', tmp_path / 'copy').ok()
    to = Instance(tmp_path / 'elsewhere')
    state = to.root / 'var/lib/sallyport'
    state.parent.mkdir(parents=True)
    shutil.copytree(tmp_path / 'copy', state)
    to('account', 'list').fails(1, 'master key is gone; restore it')
    shutil.copy(one.root / 'var/lib/sallyport/master.key', state)
    name = f'krbtgt/{REALM}'
    before = {k['key'] for k in to('account', 'keys', name, '--show-secret', '--json').json()['keys']}
    assert before == {k['key'] for k in one('account', 'keys', name, '--show-secret', '--json').json()['keys']}
    assert to('krbtgt', 'rotate', '--revoke', '--json').json()['kvno'] == 2
    after = to('account', 'keys', name, '--show-secret', '--json').json()['keys']
    assert {k['kvno'] for k in after} == {2} and not before & {k['key'] for k in after}
    to('account', 'show', 'alice').ok()


def test_krbtgt_rotate(one):
    name = f'krbtgt/{REALM}'
    one('krbtgt', 'rotate').ok()
    keys = one('account', 'keys', name, '--show-secret', '--json').json()['keys']
    assert {k['kvno'] for k in keys} == {1, 2}
    assert one('krbtgt', 'rotate', '--json').json()['kvno'] == 3


@pytest.mark.parametrize('kind', ['mit', 'heimdal', 'java'])
def test_client_config(one, kind):
    one('service', 'add', 'host/nas1.test', '--alias', '192.0.2.7').ok()
    argv = ['client-config', '--for', kind, '--kdc', '127.0.0.1:1088', '--kdc', '[::1]:1088', '--kpasswd', '127.0.0.1:1464']
    text = one(*argv).ok()
    for line in (f'default_realm = {REALM}', 'rdns = false', 'dns_canonicalize_hostname = false', 'dns_lookup_kdc = false',
                 'kdc = 127.0.0.1:1088', 'kdc = [::1]:1088', 'kpasswd_server = 127.0.0.1:1464', f'nas1.test = {REALM}',
                 f'nas1 = {REALM}', f'192.0.2.7 = {REALM}'):
        assert re.search(rf'^ +{re.escape(line)}$', text, re.M), line
    assert 'primary_kdc' not in text
    assert ('kdc.sock' in text) == (kind == 'mit')
    assert one(*argv, '--json').json()['text'] == text
    for wrong in ('a b', '10.0.0.1:', '10.0.0.1:0', '10.0.0.1:65536', '10.0.0.1:x', '2001:db8::1', '[::1', '[]', '\x01', '=', '#',
                  'a' * 300):
        one('client-config', '--kdc', wrong).fails(2, 'kdc does not read so')
    for right in ('10.0.0.1', 'nas1.test:65535', '[2001:db8::1]', '[::1]:1', '/run/sallyport/kdc.sock'):
        assert re.search(rf'^ +kdc = {re.escape(right)}$', one('client-config', '--kdc', right).ok(), re.M)
    assert re.search(r'^ +kdc = \S+:88$', one('client-config', '--for', kind).ok(), re.M)


def configure(one, text):
    snippets = one.root / 'etc/sallyport/conf.d'
    snippets.mkdir(parents=True, exist_ok=True)
    (snippets / 'clients.conf').write_text(text)


CARRIED = '''[courier]
listen-kdc = 127.0.0.1:1188
listen-kpasswd = 127.0.0.1:1464
[realm CORP.EXAMPLE]
kdc = dc1.corp.example
[realm OTHER.EXAMPLE]
kdc = 192.0.2.9
kpasswd = no
'''


@pytest.mark.parametrize('kind', ['mit', 'heimdal', 'java'])
def test_client_config_names_the_couriers_doors(one, kind):
    """Programs of this host reach what the courier carries on loopback; Heimdal by TCP alone."""
    configure(one, CARRIED)
    result = one('client-config', '--for', kind, '--json').json()
    tcp = 'tcp/' if kind == 'heimdal' else ''
    assert [r['name'] for r in result['realms']] == [REALM, 'CORP.EXAMPLE', 'OTHER.EXAMPLE']
    assert result['realms'][1] == {'name': 'CORP.EXAMPLE', 'kdc': [f'{tcp}127.0.0.1:1188'], 'kpasswd': [f'{tcp}127.0.0.1:1464']}
    assert result['realms'][2]['kpasswd'] == []
    text = result['text']
    assert re.search(rf'CORP.EXAMPLE = {{\n +kdc = {tcp}127.0.0.1:1188\n +kpasswd_server = {tcp}127.0.0.1:1464\n +}}', text), text
    for line in ('.corp.example = CORP.EXAMPLE', 'corp.example = CORP.EXAMPLE', 'dns_lookup_kdc = false', 'rdns = false'):
        assert re.search(rf'^ +{re.escape(line)}$', text, re.M), line
    alone = one('client-config', '--for', kind, '--kdc', '192.0.2.1', '--json').json()
    assert [r['name'] for r in alone['realms']] == [REALM]      # loopback is nothing for clients elsewhere
    configure(one, CARRIED.replace('listen-kdc = 127.0.0.1:1188\n', 'listen-kdc = none\n'))
    text = one('client-config', '--for', kind).ok()
    assert 'CORP.EXAMPLE: set [courier] listen-kdc' in text and 'CORP.EXAMPLE = {' not in text


RELAYED = CARRIED + f'''[relay]
realms = {REALM} CORP.EXAMPLE
kpasswd = yes
'''


def test_client_config_for_mit_behind_a_relay(one):
    configure(one, RELAYED)
    argv = ['client-config', '--relay', 'https://relay.test:8443/KdcProxy']
    result = one(*argv, '--json').json()
    assert [r['name'] for r in result['realms']] == [REALM, 'CORP.EXAMPLE']
    assert result['kdc'] == result['kpasswd'] == [result['relay']] == ['https://relay.test:8443/KdcProxy']
    assert '_kerberos.corp.example. IN URI 10 1 "krb5srv::kkdcp:https://relay.test:8443/KdcProxy"' in result['dns']
    text = result['text']
    assert 'krb5-k5tls' in text and 'http_anchors' not in text and 'primary' not in text
    for line in ('rdns = false', 'dns_canonicalize_hostname = false', 'dns_lookup_kdc = false'):
        assert re.search(rf'^ +{line}$', text, re.M), line
    assert text.count('http_anchors = FILE:/etc/ca.pem') == 0
    assert one(*argv, '--ca', '/etc/ca.pem').ok().count('        http_anchors = FILE:/etc/ca.pem\n') == 2
    configure(one, RELAYED.replace('kpasswd = yes', 'kpasswd = no'))
    assert 'kpasswd_server' not in one(*argv).ok()
    configure(one, '')      # the relay is elsewhere
    assert [r['name'] for r in one(*argv, '--json').json()['realms']] == [REALM]
    configure(one, '[relay]\nrealms = NOBODYS.EXAMPLE\n[realm NOBODYS.EXAMPLE]\nkdc = 192.0.2.1\nvia-relay = off\n')
    one(*argv).fails(1, 'realms names none that this host knows')


def test_client_config_for_macos(one):
    one('client-config', '--for', 'macos').fails(2, 'do not reach 127.0.0.1:88; say --kdc')
    text = one('client-config', '--for', 'macos', '--kdc', 'kdc.test.example', '--kpasswd', '192.0.2.1').ok()
    assert re.search('^ +kdc = kdc.test.example$', text, re.M) and 'rdns = false' in text
    text = one('client-config', '--for', 'macos', '--relay', 'https://relay.test', '--ca', '/tmp/ca.pem').ok()
    assert re.search('^ +kdc = kkdcp://relay.test/KdcProxy$', text, re.M), text
    assert 'security add-trusted-cert' in text and 'http_anchors' not in text


def test_client_config_for_windows(one):
    one('service', 'add', 'host/nas1.test').ok()
    configure(one, RELAYED)
    text = one('client-config', '--for', 'windows', '--relay', 'https://relay.test', '--json').json()['text']
    assert text.startswith('Windows Registry Editor Version 5.00\r\n') and '\n' not in text.replace('\r\n', '')
    policies = r'[HKEY_LOCAL_MACHINE\SOFTWARE\Microsoft\Windows\CurrentVersion\Policies\System\Kerberos'
    lines = text.split('\r\n')
    for line in (policies + ']', '"KdcProxyServer_Enabled"=dword:00000001', policies + r'\KdcProxy\ProxyServers]',
                 '".corp.example"="<https relay.test />"', f'"{REALM.lower()}"="<https relay.test />"',
                 policies + r'\domain_realm]', f'"{REALM}"="nas1.test;nas1"'):
        assert line in lines, line
    text = one('client-config', '--for', 'windows', '--relay', 'https://relay.test:8443/other').ok()
    assert '<https relay.test:8443:other />' in text
    one('client-config', '--for', 'windows').fails(2, 'say --kdc ADDR')
    one('client-config', '--for', 'windows', '--kdc', '192.0.2.1:1088', '--kpasswd', '192.0.2.1').fails(2, 'on port 88 alone')
    text = one('client-config', '--for', 'windows', '--kdc', 'kdc.test', '--kpasswd', 'kdc.test').ok()
    for line in (f'ksetup /addkdc {REALM} kdc.test', f'ksetup /addkpasswd {REALM} kdc.test', f'ksetup /addhosttorealmmap nas1 {REALM}'):
        assert line in text.splitlines(), line


@pytest.mark.parametrize('kind', ['heimdal', 'java'])
def test_client_config_says_who_cannot_use_a_relay(one, kind):
    one('client-config', '--for', kind, '--relay', 'https://relay.test').fails(1, 'cannot speak to a relay; run sallyportd on the client')


def test_a_configuration_that_cannot_be_read(one, tmp_path):
    file = one.root / 'etc/sallyport/sallyport.conf'
    file.unlink(missing_ok=True)
    file.mkdir()
    one('config', 'check').fails(1, 'sallyport.conf: Is a directory')
    file.rmdir()
    (one.root / 'etc/sallyport/conf.d/more.conf').mkdir()
    one('config', 'check').fails(1, 'more.conf: Is a directory')
    (one.root / 'etc/sallyport/conf.d/more.conf').rmdir()
    if os.geteuid() != 0:
        pytest.skip('needs root to become somebody else')
    copy = tmp_path / 'copies'
    copy.mkdir()
    copy.chmod(0o555)
    for part in [one.root, *one.root.parents]:
        if part == pathlib.Path('/tmp'):
            break
        part.chmod(0o755)
    nobody = pwd.getpwnam('nobody')
    subprocess.run(['chown', '-R', 'nobody', one.root], check=True)

    def as_nobody(*argv):
        done = subprocess.run([SALLYPORT, '--root', str(one.root), *map(str, argv)], capture_output=True, timeout=30, cwd='/',
                              user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[])
        return Answer(done)
    as_nobody('backup', copy).fails(5, 'Permission denied')
    as_nobody('backup', copy / 'new').fails(5, 'Permission denied')
    conf_d = one.root / 'etc/sallyport/conf.d'
    shutil.chown(conf_d, 'root')
    conf_d.chmod(0o700)
    as_nobody('config', 'check').fails(5, 'conf.d: Permission denied')
    conf_d.chmod(0o755)
    file.write_text('')
    file.chmod(0o600)
    as_nobody('config', 'check').fails(5, 'sallyport.conf: Permission denied')


@pytest.mark.parametrize('name, text', [('host/a b', 'TYPE/HOST, as in host/nas1'), ('host/', 'empty component'), ('host/-x', 'TYPE/HOST'),
                                        ('host/n\u00e4s', 'TYPE/HOST'), ('host/a/b', 'TYPE/HOST')])
def test_what_is_no_service(shared, name, text):
    shared('service', 'add', name).fails(2, text)
    shared('service', 'add', 'host/good', '--alias', name).fails(2)
    shared('account', 'show', 'host/good').fails(3)


def test_not_permitted(one):
    if os.geteuid() != 0:
        pytest.skip('needs root to become somebody else')
    for part in [one.root, *one.root.parents]:
        if part == pathlib.Path('/tmp'):
            break
        part.chmod(0o755)
    nobody = pwd.getpwnam('nobody')
    done = subprocess.run([SALLYPORT, '--root', str(one.root), 'account', 'list'], capture_output=True, timeout=30, cwd='/',
                          user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[])
    Answer(done).fails(5)


def test_a_closed_output_is_a_failure(one):
    with open('/dev/full', 'wb') as full:
        done = subprocess.run([SALLYPORT, '--root', str(one.root), 'account', 'list'], stdout=full, stderr=subprocess.PIPE,
                              timeout=30)
    assert done.returncode == 1 and b'standard output' in done.stderr


def test_completion_knows_the_tree():
    file = TOP / 'dist/completion/sallyport.bash'
    script = f'''. {file}
        for k in "${{!_sallyport_below[@]}}"; do echo "below|$k|${{_sallyport_below[$k]}}"; done
        for k in "${{!_sallyport_options[@]}}"; do echo "options|$k|${{_sallyport_options[$k]}}"; done'''
    rows = [line.split('|') for line in subprocess.run(['bash', '-c', script], capture_output=True, text=True,
                                                       check=True).stdout.splitlines()]
    words = {f'{k} {w}' for kind, k, v in rows if kind == 'below' for w in v.split()}
    verbs = {'sallyport ' + p for p in PATHS}
    groups = {'sallyport ' + p.split()[0] for p in PATHS if ' ' in p}
    assert words == verbs | groups | {'sallyport help'}
    options = {k: set(v.split()) for kind, k, v in rows if kind == 'options'}
    for c in TREE:
        assert options.get('sallyport ' + c['path'], set()) == {'--' + o['name'] for o in c['options']}, c['path']


ZSH = TOP / 'dist/completion/sallyport.zsh'


def zsh(*argv):
    return subprocess.run(['zsh', '-f', *argv], capture_output=True, text=True, timeout=30, check=True).stdout


def test_zsh_completion_knows_the_tree_and_its_help():
    zsh('-n', ZSH)
    groups = sorted({p.split()[0] for p in PATHS if ' ' in p})
    calls = ''.join(f"_sallyport_words '{g}'; for r in $reply; do print -r -- 'words|{g}|'$r; done\n" for g in ['', *groups])
    calls += ''.join(f"_sallyport_options '{p}'; for r in $reply; do print -r -- 'options|{p}|'$r; done\n" for p in PATHS)
    rows = [line.split('|', 2) for line in zsh('-c', f'compdef() {{ }}; typeset -a reply; . {ZSH}\n{calls}').splitlines()]
    told = {}
    for kind, path, entry in rows:
        if kind == 'words':
            word, text = entry.split(':', 1)
            told[f'{path} {word}'.strip()] = text
    assert set(told) == set(PATHS) | set(groups) | {'help'}
    everywhere = json.loads(call('help', '--json').ok())['options']
    for c in TREE:
        assert told[c['path']] == c['help']
        entries = [re.fullmatch(r"\*?--([a-z-]+)\[((?:\\.|[^\]])*)\](?::(.*):[^:]*)?", e)
                   for kind, path, e in rows if kind == 'options' and path == c['path'] and '--' in e]
        found = {m[1]: (re.sub(r'\\(.)', r'\1', m[2]), re.sub(r'\\(.)', r'\1', m[3] or '')) for m in entries}
        assert found == {o['name']: (o['help'], o.get('value', '')) for o in c['options'] + everywhere}, c['path']


@pytest.mark.parametrize('typed, want', [
    ('sallyport serv\tke\t', 'sallyport service keytab '),
    ('sallyport --root /tmp acc\tpa\t', 'sallyport --root /tmp account passwd '),
    ('sallyport help conf\tch\t', 'sallyport help config check '),
    ('sallyport service keytab --ou\t', 'sallyport service keytab --out '),
    ('sallyport service keytab host/x --ow\tro\t', 'sallyport service keytab host/x --owner root '),
    ('sallyport client-config --fo\thei\t', 'sallyport client-config --for heimdal '),
    ('sallyport account import /etc/debian_v\t', 'sallyport account import /etc/debian_version '),
    ('sallyport status extra --req\t', 'sallyport status extra --req'),
])
def test_zsh_completes(tmp_path, typed, want):
    shutil.copy(ZSH, tmp_path / '_sallyport')
    line = tmp_path / 'line'
    pid, fd = pty.fork()
    if pid == 0:
        try:
            os.execvpe('zsh', ['zsh', '-f', '-i'], dict(os.environ, TERM='dumb', LC_ALL='C.UTF-8', HOME=str(tmp_path)))
        finally:
            os._exit(127)
    (tmp_path / 'setup').write_text(f'''fpath=({tmp_path} $fpath)
        autoload -Uz compinit && compinit -u -D
        keep() {{ print -rn -- "$BUFFER" >{line}.part; mv {line}.part {line}; }}
        zle -N keep; bindkey '^X' keep; print rea""dy\n''')
    said, end = '', time.monotonic() + 30

    def hear(until):
        nonlocal said
        while time.monotonic() < end and not until():
            if select.select([fd], [], [], 0.05)[0]:
                said += os.read(fd, 4096).decode(errors='replace')
    os.write(fd, f'. {tmp_path}/setup\n'.encode())
    hear(lambda: re.search('^ready', said, re.M))
    os.write(fd, (typed + '\x18').encode())
    hear(line.exists)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(fd)
    assert line.exists() and line.read_text() == want, said


def test_manual_page_knows_every_verb_and_option():
    page = (TOP / 'man/sallyport.1').read_text()
    for c in TREE:
        assert re.search(rf'^\.It Cm {c["path"]}\b', page, re.M), c['path']
        for o in c['options']:
            assert f'Fl -{o["name"]}' in page, o['name']


# ---- the same through the daemon ----

@pytest.fixture
def served(one):
    port = harness.free_port()
    server = harness.Server([harness.SALLYPORTD, '--root', one.root, '--foreground', '--listen', f'127.0.0.1:{port}',
                             '--listen-kpasswd', f'127.0.0.1:{harness.free_port()}'], one.root / 'daemon.log', port)
    yield one
    assert server.stop() == 0, server.said()


def test_commands_go_through_a_daemon_that_runs(served, tmp_path):
    def unique(pairs):
        assert len({k for k, _ in pairs}) == len(pairs), f'a key twice: {pairs}'
        return dict(pairs)
    status = json.loads(served('status', '--require-daemon', '--json').ok(), object_pairs_hook=unique)
    assert status['realm'] == REALM and status['daemon']
    assert 'No sallyportd runs here' not in served('status').ok()
    served.add('alice').ok()
    served.add('alice').fails(4)
    served.add('short', password='abc').fails(1)
    served('account', 'show', 'nobody').fails(3)
    assert served('account', 'show', 'alice', '--json').json()['account']['name'] == 'alice'
    served('service', 'add', 'host/nas1.test').ok()
    served('service', 'keytab', 'host/nas1.test', '--out', tmp_path / 'k').ok()
    assert keytab_entries((tmp_path / 'k').read_bytes())
    served('account', 'unlock', 'alice').ok()
    served('account', 'delete', 'alice', '--yes').ok()


def test_client_config_says_where_the_daemon_listens(one, tmp_path):
    port, kpasswd = harness.free_port(), harness.free_port()
    server = harness.Server([harness.SALLYPORTD, '--root', one.root, '--foreground', '--listen', f'127.0.0.1:{port}',
                             '--listen-kpasswd', f'127.0.0.1:{kpasswd}'], tmp_path / 'log', port)
    try:
        made = one('client-config', '--json').json()
        assert made['kdc'] == [f'127.0.0.1:{port}'] and made['kpasswd'] == [f'127.0.0.1:{kpasswd}']
        given = one('client-config', '--kdc', '192.0.2.1', '--json').json()
        assert given['kdc'] == ['192.0.2.1'] and given['kpasswd'] == [f'127.0.0.1:{kpasswd}']
        assert not re.search(r' $', one('status').ok(), re.M)
    finally:
        assert server.stop() == 0, server.said()
    assert one('client-config', '--json').json()['kdc'][0].endswith(':88')


def test_a_lock_that_nobody_answers_for(one):
    with open(one.root / 'var/lib/sallyport/lock', 'rb') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        one('account', 'list').fails(6)


def test_manual_page_knows_every_option_of_the_daemon():
    said = subprocess.run([harness.SALLYPORTD, '--help'], capture_output=True, text=True, timeout=30).stdout
    page = (TOP / 'man/sallyportd.8').read_text()
    options = set(re.findall(r'--([a-z][a-z-]*)', said))
    assert 'listen' in options
    for name in options:
        assert re.search(rf'^\.It Fl .*-{name}\b', page, re.M), name
