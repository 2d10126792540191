/* SPDX-License-Identifier: MIT */
/* The life of the OpenSSL backend. */
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <stdlib.h>

#include "crypto/openssl/backend.h"
#include "crypto/openssl/groups.h"

bool crypto_fail_backend(struct sp_err *e, const char *what)
{
    const char *why = ERR_reason_error_string(ERR_peek_last_error());

    ERR_clear_error();
    return sp_fail(e, SP_EBACKEND, 0, "OpenSSL, %s: %s", what, why ? why : "no reason given");
}

static bool init(struct crypto *c, struct sp_err *e)
{
    /* openssl.cnf is not for a context of our own, and neither are the names of algorithms that are not
     * fetched from a provider; both together cost more than the rest of the start. */
    (void)OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_ADD_ALL_CIPHERS |
                                  OPENSSL_INIT_NO_ADD_ALL_DIGESTS,
                              NULL);
    c->lib = OSSL_LIB_CTX_new();
    if (!c->lib)
        return crypto_fail_backend(e, "a library context");
    crypto_nfold(SP_LIT("prf"), c->folded_prf, sizeof c->folded_prf);
    return crypto_kept_init(&c->kept, e) && crypto_aes_init(&c->aes, c->lib, e);
}

struct crypto *crypto_new(struct sp_err *e)
{
    struct crypto *c = calloc(1, sizeof *c);

    if (!c) {
        (void)sp_fail(e, SP_EBACKEND, 0, "no memory for the crypto backend");
        return NULL;
    }
    if (init(c, e))
        return c;
    crypto_free(c);
    return NULL;
}

void crypto_free(struct crypto *c)
{
    if (!c)
        return;
    crypto_aes_free(&c->aes);
    crypto_kept_free(&c->kept);
    p256_free(c->p256);
    OSSL_LIB_CTX_free(c->lib);
    free(c);
}
