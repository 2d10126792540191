#compdef sallyport
# SPDX-License-Identifier: MIT
# zsh completion for sallyport. The tree of commands is written out: completing must not start anything.
# tests/interop/test_cli.py compares it with `sallyport help --json`.

# The words below a group of commands, with their help, into reply.
_sallyport_words() {
    case $1 in
    '') reply=(
        'init:make the realm, its keys and the store'
        'account:accounts of people and machines'
        'service:services and their keytabs'
        'status:what is here and whether the daemon runs'
        'config:the configuration'
        'client-config:what a client'\''s krb5.conf needs'
        'backup:a consistent copy of the store'
        'krbtgt:the realm'\''s own keys'
        'version:which version this is'
        'help:what a command does'
    ) ;;
    'account') reply=(
        'add:add an account'
        'passwd:set a password'
        'show:everything about an account but its keys'
        'list:all accounts'
        'disable:no more tickets for an account'
        'enable:undo disable'
        'unlock:forget wrong passwords, so that the next try is looked at'
        'delete:remove an account for good'
        'keys:print the keys of an account, a service or krbtgt/REALM'
        'alias:add and remove other names of an account or a service'
        'export:all accounts, sealed with a passphrase, as text'
        'import:take accounts from an export; - for standard input'
    ) ;;
    'service') reply=(
        'add:add a service, with random keys'
        'keytab:write the keytab of a service'
        'rotate:new keys for a service; then write its keytab again'
        'list:all services'
        'delete:remove a service for good'
    ) ;;
    'config') reply=(
        'check:read the configuration; names file and line of a mistake'
        'show:every setting, and where it comes from'
    ) ;;
    'krbtgt') reply=(
        'rotate:new keys for the realm'\''s tickets; the previous ones still open tickets'
    ) ;;
    *) reply=() ;;
    esac
}

# The options of a command, and what stands behind it, as _arguments wants them, into reply.
_sallyport_options() {
    case $1 in
    'init') reply=(
        '--realm[the realm'\''s name; default\: this host'\''s short name in capitals]:REALM: '
        '--salt[default (realm and name) or random, for accounts made later]:RULE:(default random)'
    ) ;;
    'account add') reply=(
        '--password-stdin[the password is one line of standard input]'
        '--salt[default, random or a text of your own; a stranger can see that it differs]:RULE:(default random)'
        '*--alias[another name of the account; may be repeated]:NAME: '
        '--must-change[the password only serves to set another one]'
        '--no-expiry[the password never becomes too old]'
        '--admin[may set the passwords of others through kpasswd]'
        '--expires[2027-01-31 or 2027-01-31T12\:00\:00Z (UTC); never]:WHEN: '
        '--comment[a note for administrators]:TEXT: '
        '--enctypes[encryption types of its keys, such as 18,17]:LIST: '
    ) ;;
    'account passwd') reply=(
        '--password-stdin[the password is one line of standard input]'
        '--must-change[the password only serves to set another one]'
    ) ;;
    'account delete') reply=(
        '--yes[do not ask]'
    ) ;;
    'account keys') reply=(
        '--show-secret[print the keys; whoever reads them is that account]'
    ) ;;
    'account alias') reply=(
        '*--add[a name to add; may be repeated]:NAME: '
        '*--remove[a name to take away; may be repeated]:NAME: '
    ) ;;
    'account export') reply=(
        '--passphrase-stdin[the passphrase is one line of standard input]'
        '--out[where to (mode 0600); default\: standard output]:FILE:_files'
    ) ;;
    'account import') reply=(
        '--passphrase-stdin[the passphrase is one line of standard input]'
        '--replace[accounts that exist are replaced instead of left alone]'
    ) ;;
    'service add') reply=(
        '*--alias[a host, an address or TYPE/HOST; may be repeated]:NAME: '
        '--life[the most a ticket for it may live\: 15m, 10h]:TIME: '
        '--enctypes[encryption types of its keys, such as 18,17]:LIST: '
    ) ;;
    'service keytab') reply=(
        '--out[where to (mode 0600, replaced as a whole); - for standard output]:FILE:_files'
        '--owner[who shall read it; default\: who runs this]:USER:_users'
    ) ;;
    'service delete') reply=(
        '--yes[do not ask]'
    ) ;;
    'krbtgt rotate') reply=(
        '--revoke[the previous keys go too\: every ticket of before ends]'
    ) ;;
    'status') reply=(
        '--require-daemon[exit status 6 when no sallyportd runs]'
    ) ;;
    'client-config') reply=(
        '--for[mit (default), heimdal or java]:KIND:(mit heimdal java)'
        '*--kdc[where clients reach the KDC; default\: where it listens; may be repeated]:ADDR\[\:PORT\]: '
        '*--kpasswd[where clients change passwords; default\: where it listens; may be repeated]:ADDR\[\:PORT\]: '
    ) ;;
    *) reply=() ;;
    esac
    reply+=(
        '--root[a whole instance in one directory; also SALLYPORT_ROOT]:DIR:_files -/'
        '--json[the result, or the error, as one line of JSON on standard output]'
        '--help[what this command does]'
    )
    case $1 in
    'account import') reply+=('1:FILE:_files') ;;
    'backup') reply+=('1:DIR:_files -/') ;;
    'account list' | 'account export' | 'service list') ;;
    account\ * | service\ *) reply+=('1:NAME:_guard "^-*" NAME') ;;
    esac
}

# The words of the command are taken out of the line, so that _arguments sees what is left.
_sallyport() {
    local verb= word
    local -i skip=0
    local -a reply left=(sallyport)
    for word in "${(@)words[2,CURRENT-1]}"; do
        _sallyport_words "$verb"
        if (( ! skip && ${reply[(I)${(b)word}:*]} )); then
            [[ $word == help ]] || verb=${verb:+$verb }$word
        else
            left+=("$word")
        fi
        [[ $word == --root ]]
        skip=$(( $? == 0 && ! skip ))
    done
    _sallyport_words "$verb"
    if (( $#reply && ! skip )) && [[ $words[CURRENT] != -* ]]; then
        _describe command reply
        return
    fi
    words=("${(@)left}" "${(@)words[CURRENT,-1]}")
    CURRENT=$(( $#left + 1 ))
    _sallyport_options "$verb"
    _arguments "${(@)reply}"
}

if [[ $funcstack[1] == _sallyport ]]; then _sallyport "$@"; else compdef _sallyport sallyport; fi
