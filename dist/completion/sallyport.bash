# SPDX-License-Identifier: MIT
# bash completion for sallyport. The tree of commands is written out: completing must not start anything.
# tests/interop/test_cli.py compares it with `sallyport help --json`.

declare -gA _sallyport_below=(
    [sallyport]="init account service status config client-config backup krbtgt login gss doctor version help"
    ["sallyport account"]="add passwd show list disable enable unlock delete keys alias export import"
    ["sallyport service"]="add keytab rotate list delete"
    ["sallyport config"]="check show"
    ["sallyport krbtgt"]="rotate"
    ["sallyport gss"]="serve connect"
)

declare -gA _sallyport_options=(
    ["sallyport init"]="--realm --salt"
    ["sallyport account add"]="--password-stdin --salt --alias --must-change --no-expiry --admin --expires --comment --enctypes"
    ["sallyport account passwd"]="--password-stdin --must-change"
    ["sallyport account delete"]="--yes"
    ["sallyport account keys"]="--show-secret"
    ["sallyport account alias"]="--add --remove"
    ["sallyport account export"]="--passphrase-stdin --out"
    ["sallyport account import"]="--passphrase-stdin --replace"
    ["sallyport service add"]="--alias --life --enctypes"
    ["sallyport service keytab"]="--out --owner"
    ["sallyport service delete"]="--yes"
    ["sallyport krbtgt rotate"]="--revoke"
    ["sallyport status"]="--require-daemon"
    ["sallyport client-config"]="--for --kdc --kpasswd --relay --ca"
    ["sallyport login"]="--password-stdin --keytab --via --kdc --service --allow-timestamp --old-mit --ca --cache --force --lifetime --trace"
    ["sallyport gss serve"]="--keytab --listen --bindings --old-mit --trace"
    ["sallyport gss connect"]="--password-stdin --service --mech --user --keytab --cache --kdc --flags --bindings --by-as --allow-timestamp --old-mit --message --trace"
)

_sallyport_path() {
    local word skip=no
    path=sallyport
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        if [ $skip = yes ]; then skip=no; continue; fi
        case $word in
        --root) skip=yes ;;
        -* | help) ;;
        *) [[ " ${_sallyport_below[$path]-} " == *" $word "* ]] || return 0
           path="$path $word" ;;
        esac
    done
}

_sallyport() {
    local path cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    _sallyport_path
    COMPREPLY=()
    case $prev in
    --root) mapfile -t COMPREPLY < <(compgen -d -- "$cur"); return ;;
    --out | --keytab | --ca) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
    --owner) mapfile -t COMPREPLY < <(compgen -u -- "$cur"); return ;;
    --for) mapfile -t COMPREPLY < <(compgen -W "mit heimdal java" -- "$cur"); return ;;
    --mech) mapfile -t COMPREPLY < <(compgen -W "krb5 iakerb spnego" -- "$cur"); return ;;
    --salt) mapfile -t COMPREPLY < <(compgen -W "default random" -- "$cur"); return ;;
    esac
    if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "--root --json --help ${_sallyport_options[$path]-}" -- "$cur")
    elif [[ -n ${_sallyport_below[$path]-} ]]; then
        mapfile -t COMPREPLY < <(compgen -W "${_sallyport_below[$path]}" -- "$cur")
    elif [[ $path == "sallyport account import" || $path == "sallyport backup" ]]; then
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    elif [[ $path == "sallyport doctor" ]]; then
        mapfile -t COMPREPLY < <(compgen -A hostname -- "$cur")
    fi
}
complete -F _sallyport sallyport
