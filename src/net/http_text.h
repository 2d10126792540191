/* SPDX-License-Identifier: MIT */
/* What heads of requests and of responses are made of (RFC 9112 2.2, 5), read strictly: lines end with CR and
 * LF, names are tokens, nothing holds a control character. Pure logic. */
#ifndef SP_NET_HTTP_TEXT_H
#define SP_NET_HTTP_TEXT_H

#include "net/http.h"

/* Without blanks and tabs at both ends. */
struct sp_span net_trim_http(struct sp_span s);
/* A token of RFC 9110 5.6.2. */
bool net_is_http_token(struct sp_span s);
/* The line at `at`, without its end; MORE when it is not there as a whole, WRONG when it ends without
 * CR. *used counts the end too; 0 with MORE. */
enum net_http_result net_get_http_line(struct sp_span in, size_t at, struct sp_span *line, size_t *used);
/* Splits "name: value"; NULL, or what is wrong with it; *at, the line's offset, becomes that of what is. */
const char *net_split_http_field(struct sp_span line, struct sp_span *name, struct sp_span *value,
                                 size_t *at);
/* Does the comma-separated list hold this word? Letters without case. */
bool net_http_list_has(struct sp_span list, struct sp_span word);
/* The first member of a comma-separated list, trimmed; *rest is what stands behind its comma. */
struct sp_span net_http_list_next(struct sp_span *rest);

#endif
