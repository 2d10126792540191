/* SPDX-License-Identifier: MIT */
#include "plugin/locate/view.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "courier/locate.h"

/* Between our open and our question the daemon may have put another file in its place and let go of this one.
 */
#define TRIES 3

static bool is_closed_to_others(const struct stat *st)
{
    return (st->st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

/* Whoever owns the directory was given it by root (systemd's RuntimeDirectory); nobody else is believed. */
static bool is_trusted(const struct stat *dir, const struct stat *file)
{
    return S_ISREG(file->st_mode) && is_closed_to_others(file) &&
           (file->st_uid == 0 || file->st_uid == dir->st_uid) && file->st_size > 0 &&
           file->st_size <= LOCATE_FILE_MAX;
}

/* A write lock on the open file description: only who may write the file can hold one (flock would let every
 * reader pretend), it ends with its holder, and asking for it changes nothing. */
static bool is_held(int fd)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};

    return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_WRLCK;
}

/* Read and not mapped: a file that shrinks under a mapping is a SIGBUS in somebody else's program. */
static struct locate_view *read_all(int fd, size_t n)
{
    struct locate_view *v = malloc(sizeof *v + n);

    if (!v)
        return NULL;
    v->n = n;
    if (pread(fd, v->bytes, n, 0) == (ssize_t)n)
        return v;
    free(v);
    return NULL;
}

/* O_NONBLOCK: a FIFO in its place would wait for a writer. */
static struct locate_view *try_once(int dir_fd, const struct stat *dir)
{
    int fd = openat(dir_fd, LOCATE_FILE_NAME, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    struct locate_view *v = NULL;
    struct stat file;

    if (fd < 0)
        return NULL;
    if (fstat(fd, &file) == 0 && is_trusted(dir, &file) && is_held(fd))
        v = read_all(fd, (size_t)file.st_size);
    close(fd);
    return v;
}

struct locate_view *locate_view_read(const char *directory)
{
    int dir_fd = open(directory, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct locate_view *v = NULL;
    struct stat dir;

    if (dir_fd < 0)
        return NULL;
    if (fstat(dir_fd, &dir) == 0 && is_closed_to_others(&dir))
        for (int i = 0; i < TRIES && !v; i++)
            v = try_once(dir_fd, &dir);
    close(dir_fd);
    return v;
}
