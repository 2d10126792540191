/* SPDX-License-Identifier: MIT */
/* One failure, told to three readers: the program (kind), the peer (proto), the administrator (text). */
#ifndef SP_BASE_ERR_H
#define SP_BASE_ERR_H

#include <stdbool.h>
#include <stdint.h>

enum sp_kind {
    SP_OK,
    SP_EINPUT,    /* the bytes are not what they should be; `at` says where */
    SP_EREFUSED,  /* understood and refused; `proto` says what the peer is told */
    SP_ENOTFOUND, /* no such name or record */
    SP_EEXIST,    /* the name is taken */
    SP_ENOMEM,    /* the arena is used up; state unchanged */
    SP_EFULL,     /* the caller's buffer is too small, or the disk is full; state unchanged */
    SP_EBACKEND,  /* a library or the operating system failed */
    SP_EBUG,
};

struct sp_err {
    enum sp_kind kind;
    int32_t proto; /* KRB-ERROR code, GSS minor, NTSTATUS; 0 when none */
    uint32_t at;   /* byte offset, when a message could not be read */
    char text[160];
};

#define SP_MUST __attribute__((warn_unused_result))

/* Records the first failure (later calls on the same error add nothing) and returns false, always.
 * The text never holds a key, a password or decrypted bytes. */
__attribute__((format(printf, 4, 5))) bool sp_fail(struct sp_err *e, enum sp_kind kind, int32_t proto,
                                                   const char *fmt, ...);

/* The same, with the offset at which reading stopped. */
__attribute__((format(printf, 5, 6))) bool sp_fail_at(struct sp_err *e, enum sp_kind kind, int32_t proto,
                                                      uint32_t at, const char *fmt, ...);

#ifdef __clang_analyzer__ /* "always false", said so that the analyzer does not follow a failure as a        \
                             success */
#define sp_fail(...) ((void)sp_fail(__VA_ARGS__), false)
#define sp_fail_at(...) ((void)sp_fail_at(__VA_ARGS__), false)
#endif

static inline bool sp_ok(const struct sp_err *e)
{
    return e->kind == SP_OK;
}

/* Lower-case name of a kind, for records and tests. */
const char *sp_kind_name(enum sp_kind kind);

/* For what cannot be unless we are wrong; kept in release builds, never fed by input bytes. Ends the process.
 */
#define sp_assert(cond) ((cond) ? (void)0 : sp_assert_failed(#cond, __FILE__, __LINE__))
_Noreturn void sp_assert_failed(const char *what, const char *file, int line);

#endif
