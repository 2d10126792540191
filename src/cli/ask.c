/* SPDX-License-Identifier: MIT */
/* What a person is asked for: passwords without echo, and whether they mean it. */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/secret.h"

#define SECRET_MAX 1024 /* what kpasswd takes */

struct secret {
    char b[SECRET_MAX + 2];
};

/* Which signal ended the question; 0: none. */
static volatile sig_atomic_t ended_by;

static void note_signal(int signal)
{
    ended_by = signal;
}

/* waiting NULL: no question is open. Signals get through only while nothing else happens, so none is missed.
 */
static ssize_t read_byte(int fd, char *to, const sigset_t *waiting)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    ssize_t got;

    do {
        got = waiting && ppoll(&p, 1, NULL, waiting) < 0 ? -1 : read(fd, to, 1);
    } while (got < 0 && errno == EINTR && !ended_by);
    return got;
}

static bool take_line(int fd, struct secret *s, const char *what, const sigset_t *waiting, struct sp_err *e)
{
    size_t n = 0;

    memset(s->b, 0, sizeof s->b);
    for (;; n++) {
        ssize_t got = read_byte(fd, s->b + n, waiting);

        if (got < 0 && ended_by)
            return sp_fail(e, SP_EREFUSED, 0, "interrupted; nothing was changed");
        if (got < 0)
            return sp_fail(e, SP_EBACKEND, 0, "the %s cannot be read: %s", what, strerror(errno));
        if (got == 0 || s->b[n] == '\n')
            break;
        if (s->b[n] == 0)
            return sp_fail(e, SP_EINPUT, 0, "the %s holds a NUL byte; no client could send that", what);
        if (n >= SECRET_MAX)
            return sp_fail(e, SP_EINPUT, 0, "the %s is longer than %d bytes; choose a shorter one", what,
                           SECRET_MAX);
    }
    s->b[n] = 0;
    return true;
}

/* One line, its newline cut; byte by byte, so that what follows stays for whoever reads next. */
static bool read_line(int fd, struct secret *s, const char *what, const sigset_t *waiting, struct sp_err *e)
{
    if (!take_line(fd, s, what, waiting, e))
        return false;
    if (!s->b[0])
        return sp_fail(e, SP_EINPUT, 0, "the %s is empty; give one line", what);
    if (!sp_is_utf8(sp_str(s->b)))
        return sp_fail(e, SP_EINPUT, 0, "the %s is not UTF-8; clients would send other bytes", what);
    return true;
}

static int open_terminal(void)
{
    if (!isatty(STDIN_FILENO) && !isatty(STDERR_FILENO))
        return -1;
    return open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
}

static void say(int tty, const char *text)
{
    if (write(tty, text, strlen(text)) < 0)
        return; /* the read that follows will tell */
}

static const int ending[] = {SIGINT, SIGQUIT, SIGTERM, SIGHUP};
enum { ENDING = sizeof ending / sizeof ending[0] };

/* While a question is open these signals are noted instead of obeyed: the terminal gets its echo back first.
 */
struct guard {
    sigset_t waiting;
    struct sigaction was[ENDING];
};

static void hold_signals(struct guard *g)
{
    struct sigaction note = {.sa_handler = note_signal};
    sigset_t held;

    sigemptyset(&held);
    for (size_t i = 0; i < ENDING; i++) {
        sigaddset(&held, ending[i]);
        (void)sigaction(ending[i], &note, &g->was[i]);
        if (g->was[i].sa_handler == SIG_IGN) /* nohup means it */
            (void)sigaction(ending[i], &g->was[i], NULL);
    }
    sigprocmask(SIG_BLOCK, &held, &g->waiting);
}

static void release_signals(const struct guard *g)
{
    sigprocmask(SIG_SETMASK, &g->waiting, NULL); /* what is pending is noted, then the old ways are back */
    for (size_t i = 0; i < ENDING; i++)
        (void)sigaction(ending[i], &g->was[i], NULL);
}

void cli_end_as_told(void)
{
    if (ended_by)
        (void)raise(ended_by);
}

/* Echo off, and back on whatever happens; control-Z would leave it off, so it does nothing here. */
static bool prompt(int tty, const char *question, struct secret *s, const char *what, struct sp_err *e)
{
    struct termios before, quiet;
    struct guard g;

    if (tcgetattr(tty, &before) != 0)
        return sp_fail(e, SP_EBACKEND, 0, "the terminal cannot be set: %s", strerror(errno));
    quiet = before;
    quiet.c_lflag &= ~(tcflag_t)ECHO;
    quiet.c_lflag |= ICANON | ECHONL | ISIG;
    quiet.c_cc[VSUSP] = _POSIX_VDISABLE;
    hold_signals(&g);
    (void)tcsetattr(tty, TCSAFLUSH, &quiet);
    say(tty, question);
    bool ok = read_line(tty, s, what, &g.waiting, e);
    if (!ok && ended_by)
        say(tty, "\n");
    (void)tcsetattr(tty, TCSAFLUSH, &before);
    release_signals(&g);
    return ok && (!ended_by || sp_fail(e, SP_EREFUSED, 0, "interrupted; nothing was changed"));
}

static bool prompt_pair(int tty, const char *what, enum cli_ask how, struct secret *s, struct sp_err *e)
{
    struct secret again = {{0}};
    char question[64];
    struct sp_text t = sp_text(question, sizeof question);

    sp_text_fmt(&t, how == CLI_ASK_TWICE ? "New %s: " : "%s: ", what);
    bool ok = prompt(tty, question, s, what, e);
    if (ok && how == CLI_ASK_TWICE)
        ok = prompt(tty, "Once more: ", &again, what, e) &&
             (strcmp(s->b, again.b) == 0 || sp_fail(e, SP_EINPUT, 0, "the two differ; nothing was changed"));
    sp_wipe(&again, sizeof again);
    return ok;
}

static bool ask_terminal(const char *what, enum cli_ask how, struct secret *s, struct sp_err *e)
{
    int tty = open_terminal();

    if (tty < 0)
        return sp_fail(e, SP_EINPUT, 0, "there is no terminal to ask for the %s; pipe it in with --%s-stdin",
                       what, what);
    bool ok = prompt_pair(tty, what, how, s, e);
    close(tty);
    return ok;
}

bool cli_ask_secret(struct cli *c, const char *what, enum cli_ask how, struct sp_err *e)
{
    struct secret s = {{0}};
    char option[32];
    struct sp_text t = sp_text(option, sizeof option);

    sp_text_fmt(&t, "%s-stdin", what);
    bool ok =
        cli_flag(c, option) ? read_line(STDIN_FILENO, &s, what, NULL, e) : ask_terminal(what, how, &s, e);
    if (ok)
        cJSON_AddStringToObject(c->request, what, s.b);
    sp_wipe(&s, sizeof s);
    return ok;
}

bool cli_ask_password(struct cli *c, struct sp_err *e)
{
    return cli_ask_secret(c, "password", CLI_ASK_TWICE, e);
}

static bool says_yes(int tty, const char *path, const char *name, struct sp_err *e)
{
    char question[1024], answer[16] = "";
    struct sp_text t = sp_text(question, sizeof question);

    sp_text_fmt(&t, "%s ", path);
    sp_text_safe(&t, sp_str(name));
    sp_text_str(&t, ": this cannot be undone. Type yes: ");
    say(tty, question);
    ssize_t n = read(tty, answer, sizeof answer - 1);
    return (n > 0 && strcmp(answer, "yes\n") == 0) ||
           sp_fail(e, SP_EREFUSED, 0, "not confirmed; nothing was changed");
}

bool cli_confirm_delete(struct cli *c, struct sp_err *e)
{
    if (cli_flag(c, "yes"))
        return true;
    int tty = open_terminal();
    if (tty < 0)
        return sp_fail(e, SP_EREFUSED, 0,
                       "there is no terminal to ask whether you mean it; say so with --yes");
    bool ok =
        says_yes(tty, c->path, cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(c->request, "name")), e);
    close(tty);
    return ok;
}
