/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/courier.h"

/* sallyport-courier: the keeper starts it, with its end of a pair as CHANNEL_FD. */
int main(void)
{
    struct stat st;

    if (fstat(CHANNEL_FD, &st) != 0 || !S_ISSOCK(st.st_mode)) {
        (void)fputs("sallyport-courier: sallyportd starts it; it is not for people\n", stderr);
        return 2;
    }
    (void)close(CHANNEL_FD + 1); /* this program */
    courier_main();
}
