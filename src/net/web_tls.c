/* SPDX-License-Identifier: MIT */
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include "base/secret.h"
#include "net/web_own.h"

#define TICKET_LIFE_S 7200

/* ---- tickets (RFC 5077, RFC 8446 4.6.1): nothing is kept here of a session ---- */

static struct web_ticket_key *current_key(struct web_tickets *t)
{
    int64_t now = net_base_now_us();

    if (t->key[0].born_us && now - t->key[0].born_us < (int64_t)TICKET_LIFE_S * 1000000)
        return &t->key[0];
    t->key[1] = t->key[0];
    if (RAND_bytes((unsigned char *)&t->key[0], sizeof t->key[0]) != 1) {
        sp_wipe(&t->key[0], sizeof t->key[0]);
        return NULL;
    }
    t->key[0].born_us = now;
    return &t->key[0];
}

/* A key opens what it sealed for one life more. */
static struct web_ticket_key *key_named(struct web_tickets *t, const uint8_t name[16])
{
    int64_t now = net_base_now_us();

    for (int i = 0; i < 2; i++)
        if (t->key[i].born_us && now - t->key[i].born_us < (int64_t)2 * TICKET_LIFE_S * 1000000 &&
            sp_equal_ct(t->key[i].name, name, 16))
            return &t->key[i];
    return NULL;
}

static bool set_mac(EVP_MAC_CTX *mac, struct web_ticket_key *k)
{
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, k->mac, sizeof k->mac),
                           OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                           OSSL_PARAM_construct_end()};

    return EVP_MAC_CTX_set_params(mac, params) == 1;
}

/* 0: no ticket, a whole handshake. */
static int use_ticket_key(SSL *ssl, unsigned char name[16], unsigned char *iv, EVP_CIPHER_CTX *cipher,
                          EVP_MAC_CTX *mac, int seal)
{
    struct net_web_tls *t = SSL_get_app_data(ssl);
    struct web_ticket_key *k = !t->tickets ? NULL
                               : seal      ? current_key(t->tickets)
                                           : key_named(t->tickets, name);

    if (!k || !set_mac(mac, k))
        return 0;
    if (!seal && EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, k->cipher, iv) != 1)
        return 0;
    if (!seal) /* 2: with another ticket. RFC 8446 C.4: each is used once, so there has to be one for next
                  time */
        return SSL_version(ssl) == TLS1_2_VERSION && k == &t->tickets->key[0] ? 1 : 2;
    memcpy(name, k->name, 16);
    return RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) == 1 &&
           EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, k->cipher, iv) == 1;
}

/* ---- PEM ---- */

/* An encrypted key must not make a daemon ask its terminal. */
static int no_password(char *out, int max, int writing, void *owner)
{
    (void)out;
    (void)max;
    (void)writing;
    (void)owner;
    return -1;
}

static BIO *text_of(struct sp_span s)
{
    return BIO_new_mem_buf(s.p, s.n < INT32_MAX ? (int)s.n : INT32_MAX);
}

/* Each certificate of the text; how many, or -1 when it holds something broken. */
static int each_certificate(struct sp_span pem, bool (*take)(void *owner, X509 *x, int at), void *owner)
{
    BIO *in = text_of(pem);
    X509 *x;
    int n = 0;
    bool ok = in != NULL;

    while (ok && (x = PEM_read_bio_X509(in, NULL, no_password, NULL)) != NULL) {
        ok = take(owner, x, n++);
        X509_free(x);
    }
    ok = ok && ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    ERR_clear_error();
    BIO_free(in);
    return ok ? n : -1;
}

/* RFC 5929 4.1: the hash of its signature; SHA-256 in place of MD5 and SHA-1; none for signatures without. */
static void note_end_point(struct net_web_tls *t, X509 *x)
{
    int digest = NID_undef;
    const EVP_MD *md;

    if (X509_get_signature_info(x, &digest, NULL, NULL, NULL) != 1 || digest == NID_undef)
        return;
    md = digest == NID_md5 || digest == NID_sha1 ? EVP_sha256() : EVP_get_digestbynid(digest);
    if (!md || X509_digest(x, md, t->end_point, &t->end_point_n) != 1)
        t->end_point_n = 0;
}

static bool take_own(void *owner, X509 *x, int at)
{
    struct net_web_tls *t = owner;

    if (at > 0)
        return SSL_CTX_add1_chain_cert(t->ctx, x) == 1;
    note_end_point(t, x);
    return SSL_CTX_use_certificate(t->ctx, x) == 1;
}

static bool take_authority(void *owner, X509 *x, int at)
{
    struct net_web_tls *t = owner;

    (void)at;
    return X509_STORE_add_cert(SSL_CTX_get_cert_store(t->ctx), x) == 1 &&
           SSL_CTX_add_client_CA(t->ctx, x) == 1;
}

static bool load_own(struct net_web_tls *t, struct sp_span certificate, struct sp_span key, struct sp_err *e)
{
    BIO *in;
    EVP_PKEY *k;
    bool ok;

    if (each_certificate(certificate, take_own, t) < 1)
        return sp_fail(e, SP_EINPUT, 0, "the certificate: no PEM text of a certificate and its chain");
    in = text_of(key.n ? key : certificate);
    k = in ? PEM_read_bio_PrivateKey(in, NULL, no_password, NULL) : NULL;
    BIO_free(in);
    if (!k)
        return sp_fail(e, SP_EINPUT, 0, "the key: no PEM text of a private key without a password");
    ok = SSL_CTX_use_PrivateKey(t->ctx, k) == 1;
    EVP_PKEY_free(k);
    return ok || sp_fail(e, SP_EINPUT, 0, "the key is not the certificate's");
}

/* A session is good only under the authorities that its client's certificate was checked with. */
static bool load_authorities(struct net_web_tls *t, struct sp_span ca, struct sp_err *e)
{
    uint8_t context[SHA256_DIGEST_LENGTH];

    (void)SHA256(ca.n ? ca.p : (const uint8_t *)"", ca.n, context);
    if (SSL_CTX_set_session_id_context(t->ctx, context, sizeof context) != 1)
        return sp_fail(e, SP_EBACKEND, 0, "OpenSSL could not begin");
    if (ca.n == 0)
        return true;
    if (each_certificate(ca, take_authority, t) < 1)
        return sp_fail(e, SP_EINPUT, 0, "the clients' authorities: no PEM text of certificates");
    SSL_CTX_set_verify(t->ctx, SSL_VERIFY_PEER, NULL);
    return true;
}

/* ---- contexts ---- */

/* RFC 7301: who offers other protocols only (h2) is told so, and not answered in a language of our choice. */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *n, const unsigned char *in,
                           unsigned int in_n, void *owner)
{
    static const unsigned char ours[] = "\x08http/1.1\x08http/1.0";
    unsigned char *found;

    (void)ssl;
    (void)owner;
    if (SSL_select_next_proto(&found, n, ours, sizeof ours - 1, in, in_n) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = found;
    return SSL_TLSEXT_ERR_OK;
}

static bool make_ctx(struct net_web_tls *t, struct sp_err *e)
{
    SSL_CTX *c;

    net_name_digests();
    c = t->ctx = SSL_CTX_new(TLS_server_method());
    if (!c || SSL_CTX_set_min_proto_version(c, TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_cipher_list(c, "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES") != 1)
        return sp_fail(e, SP_EBACKEND, 0, "OpenSSL could not begin");
    SSL_CTX_set_options(c, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                               SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_mode(c, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                            SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(c, 1); /* a record in one system call, not two */
    (void)SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
    (void)SSL_CTX_set_timeout(c, TICKET_LIFE_S);
    (void)SSL_CTX_set_num_tickets(c, 1);
    (void)SSL_CTX_set_max_early_data(c, 0);
    (void)SSL_CTX_set_tlsext_ticket_key_evp_cb(c, use_ticket_key);
    SSL_CTX_set_alpn_select_cb(c, choose_protocol, NULL);
    return true;
}

struct net_web_tls *net_web_tls_new(struct sp_span certificate, struct sp_span key, struct sp_span client_ca,
                                    struct sp_err *e)
{
    struct net_web_tls *t = calloc(1, sizeof *t);

    if (t && make_ctx(t, e) && load_own(t, certificate, key, e) && load_authorities(t, client_ca, e))
        return t;
    if (t)
        SSL_CTX_free(t->ctx);
    else
        (void)sp_fail(e, SP_ENOMEM, 0, "no memory");
    free(t);
    ERR_clear_error();
    return NULL;
}

void web_tls_use(struct net_web_tls *t)
{
    if (t)
        t->users++;
}

static void free_unused(struct net_web_tls *t)
{
    if (t->users > 0 || !t->unowned)
        return;
    SSL_CTX_free(t->ctx);
    free(t);
}

void web_tls_drop(struct net_web_tls *t)
{
    if (!t)
        return;
    t->users--;
    free_unused(t);
}

void net_web_tls_free(struct net_web_tls *t)
{
    if (!t)
        return;
    t->unowned = true;
    free_unused(t);
}

/* ---- connections ---- */

SSL *web_tls_begin(struct net_web_tls *t, int fd)
{
    SSL *ssl = SSL_new(t->ctx);

    if (ssl && SSL_set_fd(ssl, fd) == 1 && SSL_set_app_data(ssl, t) == 1) {
        SSL_set_accept_state(ssl);
        return ssl;
    }
    SSL_free(ssl);
    return NULL;
}

bool web_tls_exporter(SSL *ssl, uint8_t out[32])
{
    static const char label[] = "EXPORTER-Channel-Binding";

    /* RFC 9266 4.2: before TLS 1.3 two connections could share a master secret without this extension. */
    if (SSL_version(ssl) < TLS1_3_VERSION && SSL_get_extms_support(ssl) != 1)
        return false;
    return SSL_export_keying_material(ssl, out, 32, label, sizeof label - 1, (const unsigned char *)"", 0,
                                      1) == 1;
}

char *web_tls_subject(SSL *ssl)
{
    X509 *x = SSL_get0_peer_certificate(ssl);
    BIO *out = x && SSL_get_verify_result(ssl) == X509_V_OK ? BIO_new(BIO_s_mem()) : NULL;
    char *text = NULL, *p;
    long n = 0;

    if (!out)
        return NULL;
    if (X509_NAME_print_ex(out, X509_get_subject_name(x), 0, XN_FLAG_RFC2253) >= 0)
        n = BIO_get_mem_data(out, &p);
    if (n > 0 && n <= WEB_SUBJECT_MAX && (text = malloc((size_t)n + 1)) != NULL) {
        memcpy(text, p, (size_t)n);
        text[n] = 0;
    }
    BIO_free(out);
    return text;
}

bool net_web_tls_is_for(const struct net_web_tls *t, const char *host)
{
    const unsigned flags = X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT;
    X509 *own = SSL_CTX_get0_certificate(t->ctx);
    bool is =
        own && (X509_check_host(own, host, 0, flags, NULL) == 1 || X509_check_ip_asc(own, host, 0) == 1);

    ERR_clear_error();
    return is;
}
