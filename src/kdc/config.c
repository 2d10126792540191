/* SPDX-License-Identifier: MIT */
#include "kdc/internal.h"

void kdc_config_defaults(struct kdc_config *c, enum kdc_lifetimes profile)
{
    static const int32_t order[] = {ENCTYPE_AES256_CTS_HMAC_SHA1_96, ENCTYPE_AES128_CTS_HMAC_SHA1_96,
                                    ENCTYPE_AES256_CTS_HMAC_SHA384_192, ENCTYPE_AES128_CTS_HMAC_SHA256_128};

    *c = (struct kdc_config){
        .enctype_count = 4,
        .skew_s = 300,
        .tgt_life_s = 36000,
        .service_life_s = profile == KDC_WINDOWS_LIKE ? 36000 : 900,
        .file_service_life_s = 36000, /* an SMB session ends with its ticket */
        .changepw_life_s = 300,
        .spake = true,
        .timestamp = true,
        .reveal_disabled = true,
        .guess_limits = true,
    };
    memcpy(c->enctypes, order, sizeof order);
}
