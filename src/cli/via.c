/* SPDX-License-Identifier: MIT */
/* A login through a service: the AS exchange rides in IAKERB tokens inside SPNEGO inside HTTP Negotiate, and
 * the context is given up once the ticket is here. The server learns neither password nor key. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cli/login.h"
#include "host/env.h"
#include "host/http.h"

struct via {
    struct login *l;
    struct net_http_url url;
    struct host_http *http;
    struct sec *sec;
    struct sec_initiator how;
};

static const struct krb_credential *got(const struct via *v)
{
    return v->l->wish.service.parts.count > 0 ? sec_got_service(v->sec) : sec_got_tgt(v->sec);
}

static bool set_target(struct via *v, struct sp_err *e)
{
    struct sp_span *parts = sp_new_array(&v->l->mem, struct sp_span, 2, e);

    if (!parts || v->l->wish.service.parts.count > 0) {
        v->how.service_by_as = login_is_service_near(v->l);
        return parts != NULL;
    }
    parts[0] = SP_LIT("HTTP");
    parts[1] = sp_str(v->url.host);
    v->how.wish.service = krb_name_of(NT_SRV_HST, parts, 2);
    return true;
}

static bool prepare(struct via *v, struct sp_err *e)
{
    struct login *l = v->l;

    v->how = (struct sec_initiator){.mechs = {TOKEN_IAKERB},
                                    .mech_count = 1,
                                    .spnego = true,
                                    .wish = l->wish,
                                    .target_host = sp_str(v->url.host),
                                    .flags = KCTX_MUTUAL | KCTX_REPLAY | KCTX_SEQUENCE | KCTX_INTEG};
    v->how.discover = l->wish.realm.n == 0;
    return login_policy(l, v->how.target_host, &v->how.policy, &v->how.old_mit, e) && set_target(v, e) &&
           sec_new_initiator(&v->sec, l->crypto, &v->how, &l->engine, e);
}

static bool refused(const struct via *v, const struct host_http_answer *a, struct sp_err *e)
{
    if (a->closed)
        return sp_fail(e, SP_EREFUSED, 0,
                       "%.40s ends the connection between tokens: it needs keep-alive (Apache: "
                       "GssapiConnectionBound On); nothing was changed",
                       v->url.host);
    if (!a->negotiates)
        return sp_fail(e, SP_EREFUSED, 0,
                       "%.60s answers %u and does not ask for Negotiate there; try another path", v->url.host,
                       a->status);
    return sp_fail(e, SP_EREFUSED, 0, "%.60s does not take IAKERB (status %u); see 'sallyport doctor' on it",
                   v->url.host, a->status);
}

/* What the server says to a token must be another token, as long as the ticket is not here. */
static bool trade(struct via *v, struct sp_span token, struct host_http_answer *a, struct sp_err *e)
{
    int64_t began = host_env().mono_us;

    login_trace(v->l, "to the server", token);
    if (!login_blame_peer(host_http_ask(v->http, token, a, e), e))
        return false;
    login_trace(v->l, "from the server", a->token);
    login_note(v->l, token, a->token, began);
    return a->token.n > 0 || refused(v, a, e);
}

static bool converse(struct via *v, struct sp_err *e)
{
    struct sec_event ev = {.kind = SEC_START};
    struct host_http_answer a = {0};
    struct sec_action act;

    for (;;) {
        bool first = ev.kind == SEC_START;
        bool ok = sec_step(v->sec, host_env(), &ev, &act, e);

        if (!ok)
            return first ? false : login_blame_peer(false, e);
        if (got(v)) {
            v->l->proof = sec_preauth(v->sec);
            return true;
        }
        if (act.what != SEC_SEND)
            return sp_fail(e, SP_EREFUSED, 0, "the server needs no login; nothing was changed");
        if (a.closed)
            return refused(v, &a, e);
        if (!trade(v, act.token, &a, e))
            return false;
        ev = (struct sec_event){.kind = SEC_TOKEN, .bytes = a.token};
    }
}

static bool copy_name(struct sp_arena *mem, const struct krb_name *in, struct krb_name *out, struct sp_err *e)
{
    *out = (struct krb_name){.type = in->type, .parts.count = in->parts.count};
    out->parts.v = sp_new_array(mem, struct sp_span, in->parts.count, e);
    for (uint32_t i = 0; out->parts.v && i < in->parts.count; i++)
        if (!(out->parts.v[i] = sp_dup(mem, in->parts.v[i], e)).p)
            return false;
    return out->parts.v != NULL;
}

/* The context's memory ends with it; the ticket goes on. */
static bool keep(struct sp_arena *mem, const struct krb_credential *in, struct krb_ccache *out,
                 struct sp_err *e)
{
    struct krb_credential *c = sp_new(mem, struct krb_credential, e);

    if (!c)
        return false;
    *c = *in;
    c->crealm = sp_dup(mem, in->crealm, e);
    c->srealm = sp_dup(mem, in->srealm, e);
    c->ticket = sp_dup(mem, in->ticket, e);
    *out = (struct krb_ccache){.v = c, .count = 1, .realm = c->crealm};
    if (!sp_ok(e) || !copy_name(mem, &in->client, &c->client, e) ||
        !copy_name(mem, &in->server, &c->server, e))
        return false;
    out->principal = c->client;
    return true;
}

static bool talk(struct via *v, const char *url, struct krb_ccache *out, struct sp_err *e)
{
    if (!net_parse_url(url, &v->url, e) || !prepare(v, e) ||
        !host_http_open(&v->http, &v->url, cli_local(v->l->c, "ca"), e))
        return false;
    return converse(v, e) && keep(&v->l->mem, got(v), out, e);
}

/* TLS writes as if to a file, so a server that hangs up would end the process without a word. */
bool login_via(struct login *l, const char *url, struct krb_ccache *out, struct sp_err *e)
{
    const struct sigaction ignore = {.sa_handler = SIG_IGN};
    struct via v = {.l = l};
    struct sigaction was;

    (void)sigaction(SIGPIPE, &ignore, &was);
    bool ok = talk(&v, url, out, e);
    host_http_close(v.http);
    (void)sigaction(SIGPIPE, &was, NULL);
    sec_wipe(v.sec);
    return ok;
}
