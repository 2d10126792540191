/* SPDX-License-Identifier: MIT */
/* The world, for engines that run inside somebody else's process: plugins and commands. No state, so nothing
 * to lock and nothing that a fork could share. */
#ifndef SP_HOST_ENV_H
#define SP_HOST_ENV_H

#include "base/env.h"

/* Both clocks now, and getrandom(2). A kernel without randomness ends the process. */
struct sp_env host_env(void);

#endif
