/* SPDX-License-Identifier: MIT */
/* The entry points that libgssapi looks for in an interposer, once: the loader, the engine and the table
 * between them are made from this list. ENTRY(name, parameters, arguments); `minor` is always the first.
 *
 * export_sec_context and import_sec_context are not in it: libgssapi writes an interposed context's token
 * under the OID that leads around interposers, so what we exported would be imported by the mechanism that we
 * stand in for. Without the entry the caller is told GSS_S_UNAVAILABLE, and keeps the context. */
#ifndef SP_PLUGIN_MECH_ENTRIES_H
#define SP_PLUGIN_MECH_ENTRIES_H

#include <gssapi/gssapi.h>
#include <gssapi/gssapi_ext.h>

/* clang-format off */
#define MECH_ENTRIES(ENTRY)                                                                                            \
    ENTRY(acquire_cred,                                                                                                \
          (OM_uint32 *minor, gss_name_t name, OM_uint32 life, gss_OID_set mechs, gss_cred_usage_t usage,               \
           gss_cred_id_t *cred, gss_OID_set *actual, OM_uint32 *got),                                                  \
          (minor, name, life, mechs, usage, cred, actual, got))                                                        \
    ENTRY(acquire_cred_from,                                                                                           \
          (OM_uint32 *minor, gss_name_t name, OM_uint32 life, gss_OID_set mechs, gss_cred_usage_t usage,               \
           gss_const_key_value_set_t store, gss_cred_id_t *cred, gss_OID_set *actual, OM_uint32 *got),                 \
          (minor, name, life, mechs, usage, store, cred, actual, got))                                                 \
    ENTRY(acquire_cred_with_password,                                                                                  \
          (OM_uint32 *minor, gss_name_t name, gss_buffer_t password, OM_uint32 life, gss_OID_set mechs,                \
           gss_cred_usage_t usage, gss_cred_id_t *cred, gss_OID_set *actual, OM_uint32 *got),                          \
          (minor, name, password, life, mechs, usage, cred, actual, got))                                              \
    ENTRY(release_cred, (OM_uint32 *minor, gss_cred_id_t *cred), (minor, cred))                                        \
    ENTRY(inquire_cred,                                                                                                \
          (OM_uint32 *minor, gss_cred_id_t cred, gss_name_t *name, OM_uint32 *life, int *usage, gss_OID_set *mechs),   \
          (minor, cred, name, life, usage, mechs))                                                                     \
    ENTRY(inquire_cred_by_mech,                                                                                        \
          (OM_uint32 *minor, gss_cred_id_t cred, gss_OID mech, gss_name_t *name, OM_uint32 *initiator_life,            \
           OM_uint32 *acceptor_life, int *usage),                                                                      \
          (minor, cred, mech, name, initiator_life, acceptor_life, usage))                                             \
    ENTRY(inquire_cred_by_oid,                                                                                         \
          (OM_uint32 *minor, gss_cred_id_t cred, gss_OID object, gss_buffer_set_t *data),                              \
          (minor, cred, object, data))                                                                                 \
    ENTRY(set_cred_option, (OM_uint32 *minor, gss_cred_id_t *cred, gss_OID object, gss_buffer_t value),                \
          (minor, cred, object, value))                                                                                \
    ENTRY(store_cred,                                                                                                  \
          (OM_uint32 *minor, gss_cred_id_t cred, gss_cred_usage_t usage, gss_OID mech, OM_uint32 overwrite,            \
           OM_uint32 as_default, gss_OID_set *stored, gss_cred_usage_t *stored_usage),                                 \
          (minor, cred, usage, mech, overwrite, as_default, stored, stored_usage))                                     \
    ENTRY(store_cred_into,                                                                                             \
          (OM_uint32 *minor, gss_cred_id_t cred, gss_cred_usage_t usage, gss_OID mech, OM_uint32 overwrite,            \
           OM_uint32 as_default, gss_const_key_value_set_t store, gss_OID_set *stored,                                 \
           gss_cred_usage_t *stored_usage),                                                                            \
          (minor, cred, usage, mech, overwrite, as_default, store, stored, stored_usage))                              \
    ENTRY(export_cred, (OM_uint32 *minor, gss_cred_id_t cred, gss_buffer_t token), (minor, cred, token))               \
    ENTRY(import_cred, (OM_uint32 *minor, gss_buffer_t token, gss_cred_id_t *cred), (minor, token, cred))              \
    ENTRY(import_cred_by_mech, (OM_uint32 *minor, gss_OID mech, gss_buffer_t token, gss_cred_id_t *cred),              \
          (minor, mech, token, cred))                                                                                  \
    ENTRY(init_sec_context,                                                                                            \
          (OM_uint32 *minor, gss_cred_id_t cred, gss_ctx_id_t *ctx, gss_name_t target, gss_OID mech, OM_uint32 flags,  \
           OM_uint32 life, gss_channel_bindings_t bindings, gss_buffer_t in, gss_OID *actual, gss_buffer_t out,        \
           OM_uint32 *got_flags, OM_uint32 *got_life),                                                                 \
          (minor, cred, ctx, target, mech, flags, life, bindings, in, actual, out, got_flags, got_life))               \
    ENTRY(accept_sec_context,                                                                                          \
          (OM_uint32 *minor, gss_ctx_id_t *ctx, gss_cred_id_t cred, gss_buffer_t in, gss_channel_bindings_t bindings,  \
           gss_name_t *source, gss_OID *actual, gss_buffer_t out, OM_uint32 *got_flags, OM_uint32 *got_life,           \
           gss_cred_id_t *delegated),                                                                                  \
          (minor, ctx, cred, in, bindings, source, actual, out, got_flags, got_life, delegated))                       \
    ENTRY(process_context_token, (OM_uint32 *minor, gss_ctx_id_t ctx, gss_buffer_t token), (minor, ctx, token))        \
    ENTRY(delete_sec_context, (OM_uint32 *minor, gss_ctx_id_t *ctx, gss_buffer_t out), (minor, ctx, out))              \
    ENTRY(context_time, (OM_uint32 *minor, gss_ctx_id_t ctx, OM_uint32 *life), (minor, ctx, life))                     \
    ENTRY(inquire_context,                                                                                             \
          (OM_uint32 *minor, gss_ctx_id_t ctx, gss_name_t *source, gss_name_t *target, OM_uint32 *life,                \
           gss_OID *mech, OM_uint32 *flags, int *local, int *open),                                                    \
          (minor, ctx, source, target, life, mech, flags, local, open))                                                \
    ENTRY(inquire_sec_context_by_oid,                                                                                  \
          (OM_uint32 *minor, gss_ctx_id_t ctx, gss_OID object, gss_buffer_set_t *data), (minor, ctx, object, data))    \
    ENTRY(set_sec_context_option, (OM_uint32 *minor, gss_ctx_id_t *ctx, gss_OID object, gss_buffer_t value),           \
          (minor, ctx, object, value))                                                                                 \
    ENTRY(get_mic, (OM_uint32 *minor, gss_ctx_id_t ctx, gss_qop_t qop, gss_buffer_t message, gss_buffer_t token),      \
          (minor, ctx, qop, message, token))                                                                           \
    ENTRY(verify_mic, (OM_uint32 *minor, gss_ctx_id_t ctx, gss_buffer_t message, gss_buffer_t token, gss_qop_t *qop),  \
          (minor, ctx, message, token, qop))                                                                           \
    ENTRY(wrap,                                                                                                        \
          (OM_uint32 *minor, gss_ctx_id_t ctx, int conf, gss_qop_t qop, gss_buffer_t in, int *got_conf,                \
           gss_buffer_t out),                                                                                          \
          (minor, ctx, conf, qop, in, got_conf, out))                                                                  \
    ENTRY(unwrap,                                                                                                      \
          (OM_uint32 *minor, gss_ctx_id_t ctx, gss_buffer_t in, gss_buffer_t out, int *conf, gss_qop_t *qop),          \
          (minor, ctx, in, out, conf, qop))                                                                            \
    ENTRY(wrap_size_limit,                                                                                             \
          (OM_uint32 *minor, gss_ctx_id_t ctx, int conf, gss_qop_t qop, OM_uint32 out_size, OM_uint32 *in_size),       \
          (minor, ctx, conf, qop, out_size, in_size))                                                                  \
    ENTRY(wrap_aead,                                                                                                   \
          (OM_uint32 *minor, gss_ctx_id_t ctx, int conf, gss_qop_t qop, gss_buffer_t beside, gss_buffer_t payload,     \
           int *got_conf, gss_buffer_t out),                                                                           \
          (minor, ctx, conf, qop, beside, payload, got_conf, out))                                                     \
    ENTRY(unwrap_aead,                                                                                                 \
          (OM_uint32 *minor, gss_ctx_id_t ctx, gss_buffer_t in, gss_buffer_t beside, gss_buffer_t payload, int *conf,  \
           gss_qop_t *qop),                                                                                            \
          (minor, ctx, in, beside, payload, conf, qop))                                                                \
    ENTRY(wrap_iov,                                                                                                    \
          (OM_uint32 *minor, gss_ctx_id_t ctx, int conf, gss_qop_t qop, int *got_conf, gss_iov_buffer_desc *v,         \
           int count),                                                                                                 \
          (minor, ctx, conf, qop, got_conf, v, count))                                                                 \
    ENTRY(unwrap_iov,                                                                                                  \
          (OM_uint32 *minor, gss_ctx_id_t ctx, int *conf, gss_qop_t *qop, gss_iov_buffer_desc *v, int count),          \
          (minor, ctx, conf, qop, v, count))                                                                           \
    ENTRY(wrap_iov_length,                                                                                             \
          (OM_uint32 *minor, gss_ctx_id_t ctx, int conf, gss_qop_t qop, int *got_conf, gss_iov_buffer_desc *v,         \
           int count),                                                                                                 \
          (minor, ctx, conf, qop, got_conf, v, count))                                                                 \
    ENTRY(get_mic_iov, (OM_uint32 *minor, gss_ctx_id_t ctx, gss_qop_t qop, gss_iov_buffer_desc *v, int count),         \
          (minor, ctx, qop, v, count))                                                                                 \
    ENTRY(verify_mic_iov, (OM_uint32 *minor, gss_ctx_id_t ctx, gss_qop_t *qop, gss_iov_buffer_desc *v, int count),     \
          (minor, ctx, qop, v, count))                                                                                 \
    ENTRY(get_mic_iov_length, (OM_uint32 *minor, gss_ctx_id_t ctx, gss_qop_t qop, gss_iov_buffer_desc *v, int count),  \
          (minor, ctx, qop, v, count))                                                                                 \
    ENTRY(pseudo_random,                                                                                               \
          (OM_uint32 *minor, gss_ctx_id_t ctx, int key, const gss_buffer_t in, ssize_t want, gss_buffer_t out),        \
          (minor, ctx, key, in, want, out))                                                                            \
    ENTRY(import_name, (OM_uint32 *minor, gss_buffer_t text, gss_OID type, gss_name_t *name),                          \
          (minor, text, type, name))                                                                                   \
    ENTRY(import_name_by_mech,                                                                                         \
          (OM_uint32 *minor, gss_OID mech, gss_buffer_t text, gss_OID type, gss_name_t *name),                         \
          (minor, mech, text, type, name))                                                                             \
    ENTRY(display_name, (OM_uint32 *minor, gss_name_t name, gss_buffer_t text, gss_OID *type),                         \
          (minor, name, text, type))                                                                                   \
    ENTRY(release_name, (OM_uint32 *minor, gss_name_t *name), (minor, name))                                           \
    ENTRY(duplicate_name, (OM_uint32 *minor, const gss_name_t name, gss_name_t *copy), (minor, name, copy))            \
    ENTRY(compare_name, (OM_uint32 *minor, gss_name_t a, gss_name_t b, int *equal), (minor, a, b, equal))              \
    ENTRY(export_name, (OM_uint32 *minor, const gss_name_t name, gss_buffer_t token), (minor, name, token))            \
    ENTRY(inquire_name,                                                                                                \
          (OM_uint32 *minor, gss_name_t name, int *is_mn, gss_OID *mech, gss_buffer_set_t *attributes),                \
          (minor, name, is_mn, mech, attributes))                                                                      \
    ENTRY(get_name_attribute,                                                                                          \
          (OM_uint32 *minor, gss_name_t name, gss_buffer_t attribute, int *authenticated, int *complete,               \
           gss_buffer_t value, gss_buffer_t display, int *more),                                                       \
          (minor, name, attribute, authenticated, complete, value, display, more))                                     \
    ENTRY(localname, (OM_uint32 *minor, const gss_name_t name, gss_const_OID mech, gss_buffer_t local),                \
          (minor, name, mech, local))                                                                                  \
    ENTRY(authorize_localname,                                                                                         \
          (OM_uint32 *minor, const gss_name_t name, gss_const_buffer_t local, gss_const_OID type),                     \
          (minor, name, local, type))                                                                                  \
    ENTRY(display_status,                                                                                              \
          (OM_uint32 *minor, OM_uint32 status, int type, gss_OID mech, OM_uint32 *more, gss_buffer_t text),            \
          (minor, status, type, mech, more, text))                                                                     \
    ENTRY(indicate_mechs, (OM_uint32 *minor, gss_OID_set *mechs), (minor, mechs))                                      \
    ENTRY(inquire_names_for_mech, (OM_uint32 *minor, gss_OID mech, gss_OID_set *types), (minor, mech, types))          \
    ENTRY(inquire_saslname_for_mech,                                                                                   \
          (OM_uint32 *minor, const gss_OID mech, gss_buffer_t sasl, gss_buffer_t name, gss_buffer_t description),      \
          (minor, mech, sasl, name, description))                                                                      \
    ENTRY(inquire_mech_for_saslname, (OM_uint32 *minor, const gss_buffer_t sasl, gss_OID *mech), (minor, sasl, mech))  \
    ENTRY(mech_invoke, (OM_uint32 *minor, const gss_OID mech, const gss_OID object, gss_buffer_t value),               \
          (minor, mech, object, value))                                                                                \
    ENTRY(internal_release_oid, (OM_uint32 *minor, gss_OID *oid), (minor, oid))
/* clang-format on */

#define MECH_MEMBER(name, parameters, arguments) OM_uint32(*name) parameters;
struct mech_table {
    MECH_ENTRIES(MECH_MEMBER)
};

/* What the engine object exports, and all that it exports. */
#define MECH_TABLE_SYMBOL "sallyport_mech_table"
extern const struct mech_table sallyport_mech_table;

/* Minor codes of our own (decision 26): the engine's start above this one. */
#define MECH_MINOR_BASE 0x53500000u
#define MECH_MINOR_NO_ENGINE (MECH_MINOR_BASE + 1)

#endif
