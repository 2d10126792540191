/* SPDX-License-Identifier: MIT */
/* The courier's file as a program finds it: read whole into memory of its own, or not at all. */
#ifndef SP_PLUGIN_LOCATE_VIEW_H
#define SP_PLUGIN_LOCATE_VIEW_H

#include "base/span.h"

struct locate_view {
    size_t n;
    uint8_t bytes[];
};

/* The file in this directory (run/sallyport), if a daemon stands behind it just now; else NULL. Keeps nothing
 * open. The caller frees. */
struct locate_view *locate_view_read(const char *directory);

#endif
