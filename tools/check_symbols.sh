#!/bin/bash
# SPDX-License-Identifier: MIT
# What an engine archive leaves undefined must come from a room it stands on, or from a short list of libc names that
# neither wait nor allocate. Usage: tools/check_symbols.sh BUILD-DIRECTORY [ROOM...]
set -euo pipefail
export LC_ALL=C

build=${1:?build directory}
shift
rooms=${*:-base bytes crypto krb store kdc gss}

# The port of crypto is fulfilled by a backend; the null one has the port's surface and nothing else.
declare -A closure=(
    [base]="base"
    [bytes]="bytes base"
    [crypto]="crypto crypto-null bytes base"
    [krb]="krb crypto crypto-null bytes base"
    [store]="store crypto crypto-null bytes base"
    [kdc]="kdc krb store crypto crypto-null bytes base"
    [gss]="gss client krb crypto crypto-null bytes base"
)
libc="memcpy memmove memset memcmp memchr memrchr memmem strlen strnlen strcmp strncmp strchr strrchr
strcasecmp strncasecmp bcmp explicit_bzero vsnprintf
__memcpy_chk __memmove_chk __memset_chk __explicit_bzero_chk __vsnprintf_chk
__stack_chk_fail __assert_fail abort _GLOBAL_OFFSET_TABLE_"
# Formatting belongs to base; others call it there.
declare -A more=([base]="snprintf __snprintf_chk fprintf __fprintf_chk fputs fputc fwrite stderr")

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
[ $bad = 0 ] && echo "symbols: $seen engine archives stand on their own rooms and libc's harmless part"
exit $bad
