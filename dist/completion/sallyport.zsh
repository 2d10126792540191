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
        'client-config:what clients need to be told'
        'backup:a consistent copy of the store'
        'krbtgt:the realm'\''s own keys'
        'login:get a ticket into your credential cache'
        'gss:security contexts, by hand'
        'doctor:what is wrong on the way to a realm or a host; without one, with GSS mechanisms here'
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
    'gss') reply=(
        'serve:accept security contexts over TCP, and echo what comes through them'
        'connect:establish a security context with '\''gss serve'\'' and have one message echoed'
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
        '--for[mit (default), heimdal, java, windows or macos]:KIND:(mit heimdal java windows macos)'
        '*--kdc[where clients reach the KDC; default\: where it listens; may be repeated]:ADDR\[\:PORT\]: '
        '*--kpasswd[where clients change passwords; default\: where it listens; may be repeated]:ADDR\[\:PORT\]: '
        '--relay[for clients elsewhere, which reach a relay\: https\://HOST\[\:PORT\]\[/PATH\]]:URL: '
        '--ca[where clients have the CA of the relay'\''s certificate; default\: their system'\''s]:FILE:_files'
    ) ;;
    'login') reply=(
        '--password-stdin[the password is one line of standard input]'
        '--keytab[keys of the account instead of its password]:FILE:_files'
        '--via[through a service\: http\://host\[\:port\]/path or https\://]:URL:_urls'
        '--kdc[straight to this KDC, over TCP]:HOST\[\:PORT\]:_hosts'
        '--service[a ticket for this service instead of a TGT]:TYPE/HOST: '
        '--allow-timestamp[with --via\: that server may be shown what a password can be guessed on]'
        '--old-mit[with --via\: speak the dialect of MIT 1.9 to 1.21]'
        '--ca[certificates to trust with https, instead of the system'\''s]:FILE:_files'
        '--cache[the credential cache; default\: KRB5CCNAME, then krb5.conf]:NAME: '
        '--force[overwrite the cache of another principal]'
        '--lifetime[how long the ticket shall live\: 15m, 10h]:TIME: '
        '--trace[every token, decoded, on standard error]'
    ) ;;
    'gss serve') reply=(
        '--keytab[the keys of the service]:FILE:_files'
        '--listen[default\: 127.0.0.1 and a free port, which is told on standard error]:ADDR\:PORT: '
        '--bindings[channel bindings that clients must have, too]:TEXT: '
        '--old-mit[take the dialect of MIT 1.9 to 1.21]'
        '--trace[every token, decoded, on standard error]'
    ) ;;
    'gss connect') reply=(
        '--password-stdin[the password is one line of standard input]'
        '--service[the service'\''s name]:TYPE/HOST: '
        '--mech[krb5, iakerb or spnego (default)]:MECH:(krb5 iakerb spnego)'
        '--user[with a password or keys; default\: what the credential cache holds]:USER\[@REALM\]: '
        '--keytab[keys of the user instead of a password]:FILE:_files'
        '--cache[the credential cache; default\: KRB5CCNAME, then krb5.conf]:NAME: '
        '--kdc[with krb5\: where tickets come from; default\: the local daemon]:HOST\[\:PORT\]:_hosts'
        '--flags[mutual,replay,sequence,conf,integ (default), deleg, deleg-policy, dce, identify]:LIST: '
        '--bindings[channel bindings]:TEXT: '
        '--by-as[ask for the service'\''s ticket in the first exchange]'
        '--allow-timestamp[that server may be shown what a password can be guessed on]'
        '--old-mit[speak the dialect of MIT 1.9 to 1.21]'
        '--message[what is to be echoed; default\: hello]:TEXT: '
        '--trace[every token, decoded, on standard error]'
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
    'doctor') reply+=('1:REALM or HOST:_hosts') ;;
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
