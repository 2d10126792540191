#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Each guard must pass clean code and stop a planted fault; a guard that cannot fail guards nothing."""
import pathlib
import subprocess
import tempfile
import unittest

TOOLS = pathlib.Path(__file__).resolve().parent
SHELL_ROOM = 'int {0}_work(void);\nint {0}_work(void) {{ return {1}; }}\n'


def run(*argv):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout + done.stderr


class Tree(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory(prefix='sp-guards-')
        self.addCleanup(holder.cleanup)
        self.top = pathlib.Path(holder.name)

    def put(self, path, text):
        file = self.top / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file


class Layers(Tree):
    CLEAN = {
        'src/base/err.c': '#include "base/err.h"\n#include <stdio.h>\n',
        'src/base/err.h': '#include <stdint.h>\n',
        'src/krb/names.c': '#include <string.h>\n\n#include "bytes/der.h"\n#include "krb/names.h"\n',
        'src/crypto/openssl/backend.c': '#include <openssl/evp.h>\n#include "crypto/crypto.h"\n',
        'src/store/lmdb/lmdb.c': '#include <lmdb.h>\n#include <unistd.h>\n#include "store/store.h"\n',
        'src/daemon/main.c': '#include <unistd.h>\n#include "kdc/kdc.h"\n#include "store/lmdb/open.h"\n',
    }
    FAULTS = [
        ('src/bytes/der.c', '#include "krb/names.h"', 'may not use krb'),
        ('src/kdc/as.c', '#include "store/lmdb/open.h"', 'may not use store/lmdb'),
        ('src/kdc/as.c', '#include "net/loop.h"', 'may not use net'),
        ('src/kdc/as.c', '#include "client/as.h"', 'may not use client'),
        ('src/cli/main.c', '#include "daemon/conf.h"', 'may not use daemon'),
        ('src/krb/names.c', '#include "names.h"', 'does not begin with a room'),
        ('src/krb/names.c', '#include <stdio.h>', '<stdio.h> is refused'),
        ('src/krb/names.c', '#include <stdlib.h>', '<stdlib.h> is refused'),
        ('src/base/err.c', '#include <time.h>', '<time.h> is refused'),
        ('src/kdc/as.c', '#include <unistd.h>', '<unistd.h> is refused'),
        ('src/kdc/as.c', '  #  include <sys/socket.h>', '<sys/socket.h> is refused'),
        ('src/store/record.c', '#include <pthread.h>', '<pthread.h> is refused'),
        ('src/store/record.c', '#include <lmdb.h>', 'belongs behind store/lmdb'),
        ('src/daemon/main.c', '#include <openssl/evp.h>', 'belongs behind crypto/openssl'),
        ('src/cli/main.c', '#include <krb5/krb5.h>', 'belongs behind plugin'),
        ('src/daemon/main.c', '#include <event2/event.h>', 'belongs behind net'),
        ('src/daemon/main.c', '#include <ares.h>', 'belongs behind net'),
        ('src/attic/old.c', '#include <stdint.h>', 'in no known room'),
    ]

    def check(self):
        return run(TOOLS / 'check_layers.py', self.top / 'src')

    def test_clean_code_passes(self):
        for path, text in self.CLEAN.items():
            self.put(path, text)
        self.assertEqual(self.check()[0], 0, self.check()[1])

    def test_each_planted_fault_is_named(self):
        for path, line, why in self.FAULTS:
            with self.subTest(path=path, line=line):
                file = self.put(path, '/* first line */\n' + line + '\n')
                code, text = self.check()
                self.assertEqual(code, 1, text)
                self.assertIn(why, text)
                if why != 'in no known room':
                    self.assertIn(f'{file}:2:', text)
                file.unlink()

    def test_an_empty_tree_is_not_a_pass(self):
        (self.top / 'src').mkdir()
        self.assertNotEqual(self.check()[0], 0)


class Symbols(Tree):
    def archive(self, room, text):
        source = self.put(f'{room}/{room}.c', text)
        obj = source.with_suffix('.o')
        subprocess.run(['gcc', '-w', '-c', source, '-o', obj], check=True)
        lib = source.parent / f'libsp-{room}.a'
        lib.unlink(missing_ok=True)
        subprocess.run(['ar', 'rc', lib, obj], check=True)

    def build(self, **bodies):
        for room in ('base', 'bytes', 'crypto', 'krb', 'store', 'kdc', 'client', 'gss', 'lib', 'courier'):
            self.archive(room, bodies.get(room, SHELL_ROOM.format(room, 0)))
        return run(TOOLS / 'check_symbols.sh', self.top)

    def test_clean_archives_pass(self):
        code, text = self.build(kdc='int krb_work(void);\n' + SHELL_ROOM.format('kdc', 'krb_work()'))
        self.assertEqual(code, 0, text)

    def test_a_plugin_that_loads_the_couriers_libraries_is_stopped(self):
        for library in None, '-levent_core', '-lcares', '-lssl':
            with self.subTest(library=library):
                for name, text in (('mech_sallyport', 'int gss_mech_interposer;\n'), ('sallyport_mech_engine', 'int sallyport_mech_table;\n')):
                    source = self.put(f'src/plugin/{name}.c', text)
                    more = ['-Wl,--no-as-needed', library] if library and name != 'mech_sallyport' else []
                    subprocess.run(['gcc', '-shared', '-fPIC', source, '-o', source.with_suffix('.so'), *more], check=True)
                code, said = self.build()
                self.assertEqual(code, 1 if library else 0, said)
                self.assertIn('needed, and not allowed: lib' if library else 'engine archives', said)

    def test_forbidden_libc_names_are_stopped(self):
        for name in 'malloc free time getrandom socket printf getenv read clock_gettime pthread_create'.split():
            with self.subTest(name=name):
                code, text = self.build(kdc=f'extern int {name}();\n' + SHELL_ROOM.format('kdc', f'{name}()'))
                self.assertEqual(code, 1, text)
                self.assertIn(f'not allowed: {name}\n', text)

    def test_an_upward_call_is_stopped(self):
        code, text = self.build(krb='int kdc_work(void);\n' + SHELL_ROOM.format('krb', 'kdc_work()'))
        self.assertEqual(code, 1, text)
        self.assertIn('libsp-krb.a: undefined and not allowed: kdc_work', text)

    def test_a_locator_with_more_than_its_table_is_stopped(self):
        table = 'int service_locator;\n'
        rows = ((table, None), (table + 'int more;\n', 'not allowed: more\n'),
                (table + 'char *getenv();\nstatic void *look(void) { return getenv("A"); }\nvoid *(*at)(void) '
                         '__attribute__((visibility("hidden"))) = look;\n', 'not allowed: getenv\n'))
        for text, why in rows:
            with self.subTest(why=why):
                source = self.put('src/plugin/locate.c', text)
                subprocess.run(['gcc', '-w', '-shared', '-fPIC', source, '-o', source.parent / 'sallyport_locate.so'], check=True)
                code, said = self.build()
                self.assertEqual(code, 1 if why else 0, said)
                self.assertIn(why or 'engine archives', said)

    def test_a_missing_archive_is_not_a_pass(self):
        self.archive('base', SHELL_ROOM.format('base', 0))
        code, text = run(TOOLS / 'check_symbols.sh', self.top)
        self.assertEqual(code, 1)
        self.assertIn('no libsp-kdc.a', text)


class Docs(Tree):
    def check(self, text):
        self.put('src/kdc/as.c', '')
        self.put('docs/GUIDE.md', 'see `src/kdc/as.c:kdc_step`, [above](../README.md), `src/*/as.c`, `/etc/x/y`\n')
        self.put('README.md', text)
        return run(TOOLS / 'check_docs.py', self.top)

    def test_clean_pages_pass(self):
        code, text = self.check('`docs/GUIDE.md`, [guide](docs/GUIDE.md#top), https://example.org/src/none.c\n')
        self.assertEqual(code, 0, text)

    def test_dead_names_are_stopped(self):
        for line in '`src/kdc/gone.c`', '[x](docs/NONE.md)', '`src/*/gone.c`', '`ARCHITECTURE.md`', '`./gone`':
            with self.subTest(line=line):
                code, text = self.check('first\n' + line + '\n')
                self.assertEqual(code, 1, text)
                self.assertIn('README.md:2:', text)

    def test_every_record_is_described(self):
        self.put('src/daemon/record.c', r'''begin(w, &t, now, "summary"); add("\"ts\":"); add(",\"event\":\"lost\"");''')
        self.put('src/kdc/step.c', 'r.event = t == AS ? "as" : "malformed";\n')
        rows = ['| field | what |', '|---|---|', '| `ts`, `event` | x |', '', '| event | what |', '|---|---|', '| `summary` | x |',
                '| `lost`, `as` | x |', '| `malformed` | x |']
        self.put('docs/OPERATIONS.md', '\n'.join(rows))
        code, text = self.check('')
        self.assertEqual(code, 0, text)
        for i, row in enumerate(rows):
            if not row.endswith('| x |'):
                continue
            with self.subTest(row=row):
                self.put('docs/OPERATIONS.md', '\n'.join(rows[:i] + rows[i + 1:]))
                code, text = self.check('')
                self.assertEqual(code, 1, text)
                self.assertIn('is missing', text)
        self.put('docs/OPERATIONS.md', '\n'.join(rows + ['| `gone` | x |']))
        code, text = self.check('')
        self.assertEqual(code, 1, text)
        self.assertIn('nothing writes the event gone', text)


if __name__ == '__main__':
    unittest.main()
