/* SPDX-License-Identifier: MIT */
/* The one symbol of the engine object. */
#include "plugin/mech/engine.h"

#define FIELD(name, parameters, arguments) .name = mech_##name,
__attribute__((visibility("default"))) const struct mech_table sallyport_mech_table = {MECH_ENTRIES(FIELD)};
