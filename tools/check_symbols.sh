#!/bin/bash
# SPDX-License-Identifier: MIT
# What an engine archive leaves undefined must come from a room it stands on, or from a short list of libc names that
# neither wait nor allocate. Usage: tools/check_symbols.sh BUILD-DIRECTORY [ROOM...]
set -euo pipefail
export LC_ALL=C

build=${1:?build directory}
shift
rooms=${*:-base bytes crypto krb store kdc client gss lib courier}

# The port of crypto is fulfilled by a backend; the null one has the port's surface and nothing else.
declare -A closure=(
    [base]="base"
    [bytes]="bytes base"
    [crypto]="crypto crypto-null bytes base"
    [krb]="krb crypto crypto-null bytes base"
    [store]="store crypto crypto-null bytes base"
    [kdc]="kdc krb store crypto crypto-null bytes base"
    [client]="client krb crypto crypto-null bytes base"
    [gss]="gss client krb crypto crypto-null bytes base"
    [courier]="courier krb crypto crypto-null bytes base"
    [lib]="lib gss client kdc krb store crypto crypto-null bytes base"
)
libc="memcpy memmove memset memcmp memchr memrchr memmem strlen strnlen strcmp strncmp strchr strrchr
strcasecmp strncasecmp bcmp explicit_bzero vsnprintf
__memcpy_chk __memmove_chk __memset_chk __explicit_bzero_chk __vsnprintf_chk
__stack_chk_fail __assert_fail abort _GLOBAL_OFFSET_TABLE_"
# Formatting belongs to base; others call it there.
declare -A more=([base]="snprintf __snprintf_chk fprintf __fprintf_chk fputs fputc fwrite stderr"
    [lib]="malloc free") # where the caller gives no allocator

archive() { find "$build" -name "libsp-$1.a" -print -quit; }

defined() {
    local room file
    for room in $1; do
        file=$(archive "$room")
        [ -z "$file" ] || nm --defined-only -g "$file" 2>/dev/null | awk 'NF == 3 { print $3 }'
    done
}

# Instrumented builds add names of their own: sanitizers, coverage, the fuzzer's counters.
undefined() {
    nm -u "$1" | awk 'NF == 2 && $1 == "U" { print $2 }' |
        grep -Ev '^(__asan_|__ubsan_|__sanitizer_|__sancov_|__msan_|__llvm_|__gcov_|__start___sanc|__stop___sanc|__tls_get_addr)' |
        sort -u || true
}

bad=0
seen=0
for room in $rooms; do
    file=$(archive "$room")
    if [ -z "$file" ]; then
        echo "symbols: $build has no libsp-$room.a" >&2
        bad=1
        continue
    fi
    seen=$((seen + 1))
    allowed=$(defined "${closure[$room]:?no closure is written down for room $room}" | sort -u)
    allowed+=$'\n'$(tr -s ' ' '\n' <<<"$libc ${more[$room]:-}")
    strange=$(comm -23 <(undefined "$file") <(sort -u <<<"$allowed"))
    if [ -n "$strange" ]; then
        sed "s|^|$file: undefined and not allowed: |" <<<"$strange"
        bad=1
    fi
done
# What programs load: gssi_* and the one name that libgssapi asks for; nothing but libc needed. Its engine: one table.
exports() { nm -D --defined-only "$1" | awk 'NF == 3 { print $3 }' | grep -Ev '^(__asan_|__odr_asan|__ubsan_|__sanitizer_|__sancov_|__gcov_|___asan)' || true; }
plugin=$build/src/plugin/mech_sallyport.so
if [ -e "$plugin" ]; then
    strange=$(exports "$plugin" | grep -Ev '^(gssi_[a-z_]+|gss_mech_interposer)$' || true)
    strange+=$(exports "${plugin%/*}/sallyport_mech_engine.so" | grep -vx sallyport_mech_table || true)
    if [ -n "$strange" ]; then
        sed "s|^|$plugin: exported and not allowed: |" <<<"$strange"
        bad=1
    fi
    needed=$(readelf -d "$plugin" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | grep -Ev '^(libc\.so|ld-linux|lib(a|ub)san)' || true)
    if [ -n "$needed" ]; then
        sed "s|^|$plugin: needs more than libc: |" <<<"$needed"
        bad=1
    fi
fi
# The locator lies in every program that has a krb5 context, set-id ones too: one table, libc, and no look at the environment.
locator=$build/src/plugin/sallyport_locate.so
if [ -e "$locator" ]; then
    strange=$(exports "$locator" | grep -vx service_locator || true)
    strange+=$(readelf -d "$locator" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | grep -Ev '^(libc\.so|ld-linux|lib(a|ub)san)' || true)
    strange+=$(nm -D -u "$locator" | awk '{ sub(/@.*/, ""); print $2 }' | grep -E '^(secure_)?getenv|^environ' || true)
    if [ -n "$strange" ]; then
        sed "s|^|$locator: exported or needed, and not allowed: |" <<<"$strange"
        bad=1
    fi
fi
# TLS, DNS and libevent (sp-net-web) are the courier's and the command's: not for programs that load a plugin.
engine=${plugin%/*}/sallyport_mech_engine.so
if [ -e "$engine" ]; then
    strange=$(readelf -d "$engine" | sed -n 's/.*(NEEDED).*\[\(lib\(event\|cares\|ssl\).*\)\]/\1/p')
    if [ -n "$strange" ]; then
        sed "s|^|$engine: needed, and not allowed: |" <<<"$strange"
        bad=1
    fi
fi
# The public library: its own names, all of one version, and of libraries the two that crypto stands on.
library=$build/src/lib/libsallyport.so.0
if [ -e "$library" ]; then
    strange=$(nm -D --defined-only "$library" | awk '{ print $NF }' | grep -Ev '^(sallyport_[a-z_]+@@)?SALLYPORT_0\.1$' || true)
    strange+=$(readelf -d "$library" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | grep -Ev '^(libc\.so|libcrypto\.so|libsodium\.so|ld-linux|lib(a|ub)san)' || true)
    if [ -n "$strange" ]; then
        sed "s|^|$library: exported or needed, and not allowed: |" <<<"$strange"
        bad=1
    fi
fi
[ $bad = 0 ] && echo "symbols: $seen engine archives stand on their own rooms and libc's harmless part"
exit $bad
