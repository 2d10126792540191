/* SPDX-License-Identifier: MIT */
#include "store/store.h"

const struct store_key *store_find_key(const struct store_account *a, int32_t etype, uint32_t kvno)
{
    for (uint32_t i = 0; i < a->key_count; i++) {
        const struct store_key *k = &a->keys[i];

        if (k->key.etype == etype && (kvno == 0 || k->kvno == kvno))
            return k; /* newest first */
    }
    return NULL;
}

uint32_t store_kvno(const struct store_account *a)
{
    return a->key_count > 0 ? a->keys[0].kvno : 0;
}
