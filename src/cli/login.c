/* SPDX-License-Identifier: MIT */
/* sallyport login: tickets into the user's ordinary credential cache. */
#include "cli/login.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "host/pins.h"
#include "krb/keytab.h"

#define TRACE_MAX 65536

/* ---- what every command of a user needs ---- */

bool login_begin(struct login *l, struct cli *c, struct sp_err *e)
{
    *l = (struct login){.c = c, .crypto = crypto_new(e), .steps = cJSON_CreateArray()};
    host_courier_init(&l->route.courier);
    if (!l->crypto)
        return false;
    l->block = malloc(LOGIN_ARENA); /* pages that are not used cost nothing */
    l->route.reply = malloc(COURIER_FRAME_MAX);
    l->keys = calloc(CLIENT_KEYS_MAX, sizeof *l->keys);
    if (!l->block || !l->route.reply || !l->keys)
        return sp_fail(e, SP_ENOMEM, 0, "out of memory; nothing was changed");
    sp_arena_init(&l->mem, l->block, LOGIN_ARENA - SEC_ARENA_MIN);
    sp_arena_init(&l->engine, (uint8_t *)l->block + LOGIN_ARENA - SEC_ARENA_MIN, SEC_ARENA_MIN);
    l->route.kdc = cli_local(c, "kdc");
    /* The daemon of this root is meant, as with every other command. */
    return !c->paths.root[0] || setenv("SALLYPORT_ROOT", c->paths.root, 1) == 0 ||
           sp_fail(e, SP_ENOMEM, 0, "out of memory; nothing was changed");
}

void login_end(struct login *l)
{
    if (l->block) {
        sp_arena_reset(&l->mem);
        sp_arena_reset(&l->engine);
    }
    if (l->keys)
        sp_wipe(l->keys, CLIENT_KEYS_MAX * sizeof *l->keys);
    host_courier_close(&l->route.courier);
    free(l->keys);
    free(l->block);
    free(l->route.reply);
    cJSON_Delete(l->steps);
    if (l->crypto)
        crypto_free(l->crypto);
}

bool login_take_user(struct login *l, const char *text, struct sp_err *e)
{
    return krb_parse_name(sp_str(text), &l->mem, &l->wish.client, &l->wish.realm, e);
}

/* One word may be the name of a machine's account, as Active Directory has them. */
bool login_take_service(struct login *l, const char *text, struct sp_err *e)
{
    const struct krb_name *s = &l->wish.service;

    if (!krb_parse_name(sp_str(text), &l->mem, &l->wish.service, &l->wish.service_realm, e))
        return false;
    struct sp_span last = s->parts.v[s->parts.count - 1];
    return s->parts.count > 1 || last.p[last.n - 1] == '$' ||
           sp_fail(e, SP_EINPUT, 0,
                   "'%.40s' names no service; write TYPE/HOST, such as HTTP/nas1.example.org", text);
}

bool login_is_service_near(const struct login *l)
{
    return l->wish.service_realm.n == 0 || sp_same(l->wish.service_realm, l->wish.realm);
}

/* The realm counts only where the user named one: a keytab from elsewhere may still hold the account's keys.
 */
static bool is_key_of(const struct login *l, const struct krb_keytab_entry *k)
{
    return krb_same_name(&k->name, &l->wish.client) && k->key.n <= sizeof l->keys->b &&
           (l->wish.realm.n == 0 || sp_same(k->realm, l->wish.realm));
}

static bool take_keys(struct login *l, const struct krb_keytab *kt, struct sp_err *e)
{
    uint32_t newest = 0;

    for (uint32_t i = 0; i < kt->count; i++)
        if (is_key_of(l, &kt->v[i]) && kt->v[i].kvno > newest)
            newest = kt->v[i].kvno;
    for (uint32_t i = 0; i < kt->count && l->wish.key_count < CLIENT_KEYS_MAX; i++) {
        const struct krb_keytab_entry *k = &kt->v[i];

        if (!is_key_of(l, k) || k->kvno != newest)
            continue;
        struct sp_key *to = &l->keys[l->wish.key_count++];
        *to = (struct sp_key){.n = (uint8_t)k->key.n, .keep = true, .etype = k->etype};
        memcpy(to->b, k->key.p, k->key.n);
        if (l->wish.realm.n == 0)
            l->wish.realm = k->realm;
    }
    l->wish.keys = l->keys;
    return l->wish.key_count > 0 ||
           sp_fail(e, SP_ENOTFOUND, 0, "the keytab holds no key of this name; see 'klist -k'");
}

static bool read_keytab(struct login *l, const char *path, struct sp_err *e)
{
    struct krb_keytab kt;
    struct sp_err why = {0};
    size_t n = 0;

    uint8_t *file = cli_read_bytes(path, 1u << 20, &n, e);
    if (!file)
        return false;
    struct sp_span bytes = sp_dup(&l->mem, sp_span(file, n), e);
    sp_wipe(file, n);
    free(file);
    return bytes.p &&
           (krb_get_keytab(bytes, &l->mem, &kt, &why) ? take_keys(l, &kt, e) : cli_no_keytab(path, &why, e));
}

bool login_take_secret(struct login *l, struct sp_err *e)
{
    const char *keytab = cli_local(l->c, "keytab");

    if (keytab)
        return read_keytab(l, keytab, e);
    if (!cli_ask_secret(l->c, "password", CLI_ASK_ONCE, e))
        return false;
    l->wish.password =
        sp_str(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(l->c->request, "password")));
    return true;
}

bool login_policy(const struct login *l, struct sp_span host, struct client_policy *out,
                  enum sec_old_mit *old_mit, struct sp_err *e)
{
    struct host_pin pin;

    if (!host_find_pin(host, &pin, e))
        return false;
    client_policy_in_band(out);
    out->timestamp = pin.timestamp || cli_flag(l->c, "allow-timestamp");
    *old_mit = pin.old_mit || cli_flag(l->c, "old-mit") ? SEC_OLD_MIT_ACCEPT : SEC_OLD_MIT_OFF;
    return true;
}

/* ---- the transcript ---- */

/* A Kerberos message, found where the printer begins it: at the start of a line, whatever is around it. */
static enum krb_type find_message(const char *text, const char **at)
{
    for (const char *line = text; line && *line; line = strchr(line, '\n'), line += line != NULL)
        for (int t = 0; t < KRB_TYPE_COUNT; t++) {
            size_t n = strlen(krb_type_name((enum krb_type)t));

            if (strncmp(line, krb_type_name((enum krb_type)t), n) == 0 && line[n] == '\n') {
                *at = line + n;
                return (enum krb_type)t;
            }
        }
    return KRB_TYPE_COUNT;
}

const char *login_kind(struct sp_span message, char *buf, size_t n)
{
    struct sp_text t = sp_text(buf, n);
    char *text = malloc(TRACE_MAX);
    struct sp_text all = sp_text(text, text ? TRACE_MAX : 0);
    const char *at = NULL;

    if (message.n == 0 || !text) {
        free(text);
        sp_text_str(&t, "nothing");
        return buf;
    }
    token_print(message, &all);
    enum krb_type type = find_message(text, &at);
    const char *other =
        strstr(text, "iakerb 05 01") ? "discovery" : "token"; /* a header alone is about the realm */
    const char *code = type == KRB_ERROR ? strstr(at, "error-code: ") : NULL;
    if (code)
        sp_text_fmt(&t, "error %ld %s", strtol(code + 12, NULL, 10),
                    krb_code_name((int32_t)strtol(code + 12, NULL, 10)));
    else
        sp_text_str(&t, type != KRB_TYPE_COUNT ? krb_type_name(type) : other);
    free(text);
    return buf;
}

void login_note(struct login *l, struct sp_span sent, struct sp_span came, int64_t began_us)
{
    cJSON *one = cJSON_CreateObject();
    char buf[128];

    cJSON_AddStringToObject(one, "sent", login_kind(sent, buf, sizeof buf));
    cJSON_AddNumberToObject(one, "bytes", (double)sent.n);
    cJSON_AddStringToObject(one, "came", login_kind(came, buf, sizeof buf));
    cJSON_AddNumberToObject(one, "came_bytes", (double)came.n);
    cJSON_AddNumberToObject(one, "us", (double)(host_env().mono_us - began_us));
    cJSON_AddItemToArray(l->steps, one);
}

bool login_blame_peer(bool ok, struct sp_err *e)
{
    if (!ok && e->kind == SP_EINPUT)
        e->kind = SP_EREFUSED;
    return ok;
}

void login_trace(const struct login *l, const char *what, struct sp_span token)
{
    if (!cli_flag(l->c, "trace"))
        return;
    char *text = malloc(TRACE_MAX);
    if (!text)
        return;
    struct sp_text t = sp_text(text, TRACE_MAX);
    token_print(token, &t);
    fprintf(stderr, "%s, %zu bytes\n%s", what, token.n, text);
    free(text);
}

/* ---- straight to a KDC ---- */

bool login_exchange(struct login *l, struct client *cl, struct client_action *act, struct sp_err *e)
{
    struct sp_span reply;
    bool ok = true;

    while (ok && !act->done) {
        int64_t began = host_env().mono_us;

        login_trace(l, "to the KDC", act->request);
        ok = login_carry(l, act->realm, act->request, &reply, e);
        if (!ok)
            break;
        login_trace(l, "from the KDC", reply);
        login_note(l, act->request, reply, began);
        ok = login_blame_peer(client_reply(cl, host_env(), reply, act, e), e);
    }
    return ok;
}

static bool keep(struct login *l, const struct krb_credential *got, struct krb_ccache *out, struct sp_err *e)
{
    struct krb_credential *v = sp_new(&l->mem, struct krb_credential, e);

    if (!v)
        return false;
    *v = *got;
    *out = (struct krb_ccache){.principal = got->client, .realm = got->crealm, .v = v, .count = 1};
    return true;
}

static bool login_direct(struct login *l, struct krb_ccache *out, struct sp_err *e)
{
    struct client_action act;
    struct client *cl = NULL;

    client_policy_direct(&l->policy);
    if (l->wish.realm.n == 0 && !l->route.kdc && !login_local_realm(l, &l->wish.realm, e))
        return false;
    if (l->wish.realm.n == 0)
        return sp_fail(e, SP_EINPUT, 0, "which realm? Write USER@REALM; see 'sallyport login --help'");
    l->wish.goal = !l->wish.service.parts.count ? CLIENT_TGT
                   : login_is_service_near(l)   ? CLIENT_SERVICE_BY_AS
                                                : CLIENT_SERVICE;
    if (!client_start(&cl, l->crypto, &l->policy, &l->wish, host_env(), &l->engine, &act, e) ||
        !login_exchange(l, cl, &act, e))
        return false;
    const struct krb_credential *got = l->wish.service.parts.count ? client_service(cl) : client_tgt(cl);
    if (!keep(l, got, out, e))
        return false;
    out->offset_s = (int32_t)client_offset_s(cl);
    l->proof = client_preauth(cl);
    return true;
}

/* ---- into the cache ---- */

static bool is_replaced(const struct krb_ccache *by, const struct krb_credential *old, int64_t now_s)
{
    return old->endtime <= now_s ||
           (krb_same_name(&old->server, &by->v[0].server) && sp_same(old->srealm, by->v[0].srealm));
}

/* A service ticket comes to what is there already; a TGT begins anew, as with kinit. */
static bool merge(struct login *l, const struct host_ccache *cc, struct krb_ccache *got, struct sp_err *e)
{
    struct krb_ccache had;
    struct sp_err none = {0};

    if (!l->wish.service.parts.count || !host_read_ccache(cc, &l->mem, &had, &none) ||
        !krb_same_name(&had.principal, &got->principal) || !sp_same(had.realm, got->realm))
        return true;
    struct krb_credential *v = sp_new_array(&l->mem, struct krb_credential, had.count + 1, e);
    if (!v)
        return false;
    uint32_t count = 0;
    v[count++] = got->v[0];
    for (uint32_t i = 0; i < had.count; i++)
        if (!is_replaced(got, &had.v[i], host_env().wall_us / 1000000))
            v[count++] = had.v[i];
    got->v = v;
    got->count = count;
    got->config = had.config;
    got->config_count = had.config_count;
    return true;
}

static void add_time(cJSON *to, const char *key, int64_t unix_s)
{
    char text[40];
    struct sp_text t = sp_text(text, sizeof text);
    struct sp_date d = sp_date_of(unix_s);

    if (unix_s == 0)
        return;
    sp_text_fmt(&t, "%04d-%02u-%02uT%02u:%02u:%02uZ", (int)d.year, d.month, d.day, d.hour, d.minute,
                d.second);
    cJSON_AddStringToObject(to, key, text);
}

static void add_name(cJSON *to, const char *key, const struct krb_name *name, struct sp_span realm)
{
    char text[KRB_NAME_TEXT_MAX * 2];
    struct sp_text t = sp_text(text, sizeof text);

    krb_text_principal(&t, name, realm);
    cJSON_AddStringToObject(to, key, text);
}

static double sum(const cJSON *steps, const char *key)
{
    const cJSON *step;
    double all = 0;

    cJSON_ArrayForEach(step, steps) all += cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(step, key));
    return all;
}

/* What proved the KDC: its reply opened with the key of this secret. The server that carried the messages
 * proved nothing, because the context ends before its turn. */
static void tell_proof(struct login *l, cJSON *out)
{
    const char *via = cli_local(l->c, "via");

    if (l->proof)
        cJSON_AddStringToObject(out, "proof", l->proof);
    cJSON_AddStringToObject(out, "secret", l->wish.password.p ? "password" : "keytab");
    if (!via)
        return;
    cJSON_AddStringToObject(out, "via", via);
    cJSON_AddStringToObject(out, "finished", "none");
    cJSON_AddBoolToObject(out, "mutual", false);
}

static cJSON *tell(struct login *l, const struct krb_ccache *got, const struct host_ccache *where)
{
    cJSON *out = cJSON_CreateObject();

    add_name(out, "principal", &got->principal, got->realm);
    add_name(out, "ticket", &got->v[0].server, got->v[0].srealm);
    cJSON_AddStringToObject(out, "cache", where->name);
    add_time(out, "ends", got->v[0].endtime);
    add_time(out, "renew_until", got->v[0].renew_till);
    cJSON_AddNumberToObject(out, "etype", got->v[0].key.etype);
    tell_proof(l, out);
    cJSON_AddNumberToObject(out, "bytes", sum(l->steps, "bytes"));
    cJSON_AddNumberToObject(out, "came_bytes", sum(l->steps, "came_bytes"));
    cJSON_AddNumberToObject(out, "us", sum(l->steps, "us"));
    cJSON_AddItemToObject(out, "steps", l->steps);
    l->steps = NULL;
    return out;
}

/* ---- the verb ---- */

static bool take_arguments(struct login *l, struct sp_err *e)
{
    const char *service = cli_local(l->c, "service");
    const cJSON *life = cJSON_GetObjectItemCaseSensitive(l->c->local, "lifetime");

    if (cJSON_IsNumber(life))
        l->wish.life_s = (int64_t)life->valuedouble;
    if (cJSON_IsNumber(life) && l->wish.life_s <= 0)
        return sp_fail(e, SP_EINPUT, 0,
                       "a ticket without a lifetime is of no use; leave out --lifetime, or say 10h");
    return login_take_user(l, cli_local(l->c, "operand"), e) &&
           (!service || login_take_service(l, service, e));
}

/* Only the exchange tells which principal it will be; where the realm is known, a refusal comes before the
 * question. */
static bool check_cache(struct login *l, const struct host_ccache *cc, enum host_ccache_others others,
                        struct sp_err *e)
{
    size_t used = l->mem.used;

    if (l->wish.realm.n == 0)
        return true;
    bool ok = host_check_ccache(cc, &l->wish.client, l->wish.realm, others, &l->mem, e);
    if (ok)
        l->mem.used = used;
    return ok;
}

static bool run(struct login *l, cJSON **out, struct sp_err *e)
{
    enum host_ccache_others others = cli_flag(l->c, "force") ? HOST_CCACHE_OVERWRITE : HOST_CCACHE_SPARE;
    const char *via = cli_local(l->c, "via");
    struct host_ccache cc, written;
    struct krb_ccache got;

    if (via && l->route.kdc)
        return sp_fail(e, SP_EINPUT, 0, "--via and --kdc are two ways; name one");
    if (!take_arguments(l, e) || !host_find_ccache(cli_local(l->c, "cache"), &cc, e) ||
        !check_cache(l, &cc, others, e) || !login_take_secret(l, e))
        return false;
    if (!(via ? login_via(l, via, &got, e) : login_direct(l, &got, e)))
        return false;
    if (!merge(l, &cc, &got, e) || !host_write_ccache(&cc, &got, others, &l->mem, &written, e))
        return false;
    *out = tell(l, &got, &written);
    return true;
}

bool cli_run_login(struct cli *c, cJSON **out, struct sp_err *e)
{
    struct login l;
    bool ok = login_begin(&l, c, e) && run(&l, out, e);

    login_end(&l);
    return ok;
}

void login_print_step(const cJSON *step, int number)
{
    double us = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(step, "us"));
    char sent[160], bytes[32], came[160], came_bytes[32];

    printf("  %2d  %-9s %6s bytes  ->  %-43s %6s bytes %8.1f ms\n", number,
           cli_text(step, "sent", sent, sizeof sent), cli_text(step, "bytes", bytes, sizeof bytes),
           cli_text(step, "came", came, sizeof came),
           cli_text(step, "came_bytes", came_bytes, sizeof came_bytes), us / 1000);
}

/* Indented as a step is, so that the sums stand below what they sum up. */
static void print_sum(const cJSON *result, int steps)
{
    double us = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(result, "us"));
    char bytes[32], came[32];

    if (steps > 1)
        printf("      %-9s %6s bytes      %-43s %6s bytes %8.1f ms\n", "in all",
               cli_text(result, "bytes", bytes, sizeof bytes), "",
               cli_text(result, "came_bytes", came, sizeof came), us / 1000);
}

void cli_print_login(struct cli *c, const cJSON *result)
{
    const cJSON *step;
    char a[4400], b[4400];
    int number = 0;

    (void)c;
    cJSON_ArrayForEach(step, cJSON_GetObjectItemCaseSensitive(result, "steps"))
        login_print_step(step, ++number);
    print_sum(result, number);
    printf("%s is logged in", cli_text(result, "principal", a, sizeof a));
    printf(" until %s\n", cli_text(result, "ends", a, sizeof a));
    printf("%s in %s\n", cli_text(result, "ticket", a, sizeof a), cli_text(result, "cache", b, sizeof b));
    printf("proof: %s; the KDC's reply opened with the %s's key\n", cli_text(result, "proof", a, sizeof a),
           cli_text(result, "secret", b, sizeof b));
    if (cJSON_HasObjectItem(result, "via"))
        printf("%s carried it and proved nothing itself (no FINISHED, no mutual authentication)\n",
               cli_text(result, "via", a, sizeof a));
}
