/* SPDX-License-Identifier: MIT */
/* mech_sallyport.so: what libgssapi loads into every program that makes a GSS call. It needs nothing but libc
 * and does nothing until somebody uses our mechanism; then the engine beside it is opened, once. */
#include "plugin/mech/entries.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORTED __attribute__((visibility("default")))
#define IAKERB_OID "\x2b\x06\x01\x05\x02\x05" /* 1.3.6.1.5.2.5 */
#define ENGINE_FILE "sallyport_mech_engine.so"
#define PATH_ROOM 4096

static pthread_once_t opened = PTHREAD_ONCE_INIT;
static const struct mech_table *table;

static const struct mech_table *open_at(const char *directory, int n)
{
    char path[PATH_ROOM];
    void *so;

    if (snprintf(path, sizeof path, "%.*s/" ENGINE_FILE, n, directory) >= (int)sizeof path)
        return NULL;
    /* NODELETE: libraries below it cannot be unloaded safely, and libgssapi unloads mechanisms at exit. */
    so = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    return so ? (const struct mech_table *)dlsym(so, MECH_TABLE_SYMBOL) : NULL;
}

EXPORTED gss_OID_set gss_mech_interposer(gss_OID mech);

/* Beside this file, wherever it was loaded from; else where the build installs it. */
static void open_engine(void)
{
    Dl_info self;
    const char *slash;

    if (dladdr((void *)gss_mech_interposer, &self) && self.dli_fname &&
        (slash = strrchr(self.dli_fname, '/')) != NULL)
        table = open_at(self.dli_fname, (int)(slash - self.dli_fname));
    if (!table)
        table = open_at(MECH_ENGINE_DIRECTORY, (int)strlen(MECH_ENGINE_DIRECTORY));
}

static const struct mech_table *engine(void)
{
    (void)pthread_once(&opened, open_engine);
    return table;
}

/* ---- what is asked of every mechanism in every program: answered here, without the engine ---- */

static void free_set(gss_OID_set set)
{
    for (size_t i = 0; set && i < set->count; i++)
        free(set->elements[i].elements);
    if (set)
        free(set->elements);
    free(set);
}

/* OIDs that share all but the last arc, which is below 128. libgssapi frees the set, piece by piece as here.
 */
static gss_OID_set make_set(const char *stem, size_t stem_n, const char *last, size_t count)
{
    gss_OID_set set = calloc(1, sizeof *set);

    if (!set)
        return NULL;
    set->elements = calloc(count, sizeof *set->elements);
    for (; set->elements && set->count < count; set->count++) {
        char *bytes = malloc(stem_n + 1);

        if (!bytes)
            break;
        memcpy(bytes, stem, stem_n);
        bytes[stem_n] = last[set->count];
        set->elements[set->count] = (gss_OID_desc){(OM_uint32)stem_n + 1, bytes};
    }
    if (set->elements && set->count == count)
        return set;
    free_set(set);
    return NULL;
}

EXPORTED gss_OID_set gss_mech_interposer(gss_OID mech)
{
    (void)mech;
    return make_set(IAKERB_OID, sizeof IAKERB_OID - 2, &IAKERB_OID[sizeof IAKERB_OID - 2], 1);
}

/* RFC 5587: 1.3.6.1.5.5.13.N. Without 8, GSS_C_MA_NOT_DFLT_MECH, which keeps the built-in one out of SPNEGO:
 * concrete (1), initial tokens framed (9), initiator and acceptor authenticate (10, 11), the initiator with
 * initial credentials (12), delegation (16), integrity and confidentiality (17, 18), MIC and wrap (19, 20),
 * ready before the end (21), replay and sequence (22, 23), channel bindings (24). */
EXPORTED OM_uint32 gssi_inquire_attrs_for_mech(OM_uint32 *minor, gss_const_OID mech, gss_OID_set *attributes,
                                               gss_OID_set *known);
OM_uint32 gssi_inquire_attrs_for_mech(OM_uint32 *minor, gss_const_OID mech, gss_OID_set *attributes,
                                      gss_OID_set *known)
{
    static const char stem[] = "\x2b\x06\x01\x05\x05\x0d";
    static const char v[] = {1, 9, 10, 11, 12, 16, 17, 18, 19, 20, 21, 22, 23, 24};

    (void)mech;
    *minor = 0;
    if (attributes)
        *attributes = make_set(stem, sizeof stem - 1, v, sizeof v);
    if (known)
        *known = make_set(stem, sizeof stem - 1, v, sizeof v);
    return (attributes && !*attributes) || (known && !*known) ? GSS_S_FAILURE : GSS_S_COMPLETE;
}

#define FORWARD(name, parameters, arguments)                                                                 \
    EXPORTED OM_uint32 gssi_##name parameters;                                                               \
    OM_uint32 gssi_##name parameters                                                                         \
    {                                                                                                        \
        const struct mech_table *t = engine();                                                               \
                                                                                                             \
        if (t)                                                                                               \
            return t->name arguments;                                                                        \
        *minor = MECH_MINOR_NO_ENGINE;                                                                       \
        return GSS_S_UNAVAILABLE;                                                                            \
    }
MECH_ENTRIES(FORWARD)
