/* The service manager of a base without systemd: one service, its output with times to the log
 * port, its state in a file for `vmorch-identity status`.
 *
 * SIGHUP stops the service and starts it again from the directory's present contents (a fork's
 * new identity); SIGTERM stops it and ends. */
#include "vmorch-guest.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Given at build by tests, which have none of a guest's. */
#ifndef LOG_PORT
#define LOG_PORT "/dev/virtio-ports/org.vmorch.log.0"
#endif
#ifndef CONSOLE
#define CONSOLE "/dev/console"
#endif
#ifndef STATE_FILE
#define STATE_FILE "/run/vmorch/service.state"
#endif
#ifndef RESTART_MILLISECONDS
#define RESTART_MILLISECONDS 1000
#endif
#ifndef STOP_SECONDS
#define STOP_SECONDS 10
#endif
#define LINE_BYTES 8192
#define LAST_LINES 10
#define LOG_MILLISECONDS 500

struct supervisor {
    const char *directory;
    char host[256];
    int signals, log;
    pid_t child;
    int output;
    char line[LINE_BYTES];
    size_t length;
    char *last[LAST_LINES];
    size_t lines;
};

enum wish { GO_ON, RESTART, END };

static void write_state(const char *word, int number)
{
    FILE *file = fopen(STATE_FILE ".new", "we");

    if (!file)
        return;
    fprintf(file, "%s %d\n", word, number);
    fclose(file);
    rename(STATE_FILE ".new", STATE_FILE);
}

/* A host that does not read must not stop the service: what cannot be written soon is dropped. */
static void write_log(int log, const char *text, size_t size)
{
    struct pollfd port = {.fd = log, .events = POLLOUT};

    while (log >= 0 && size) {
        ssize_t done = write(log, text, size);
        if (done < 0 && errno == EAGAIN && poll(&port, 1, LOG_MILLISECONDS) > 0)
            continue;
        if (done < 0)
            return;
        text += done;
        size -= (size_t)done;
    }
}

static void emit_line(struct supervisor *self)
{
    char text[LINE_BYTES + 512];
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    int size = snprintf(text, sizeof text, "%lld.%06ld %s service: %.*s\n",
                        (long long)now.tv_sec, now.tv_nsec / 1000, self->host,
                        (int)self->length, self->line);
    self->length = 0;
    write_log(self->log, text, (size_t)size);
    char **place = &self->last[self->lines++ % LAST_LINES];
    free(*place);
    *place = strdup(text);
}

static void take_output(struct supervisor *self)
{
    char chunk[4096];
    ssize_t got = read(self->output, chunk, sizeof chunk);

    for (ssize_t i = 0; i < got; i++) {
        if (chunk[i] != '\n')
            self->line[self->length++] = chunk[i];
        if (chunk[i] == '\n' || self->length == LINE_BYTES)
            emit_line(self);
    }
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
        close(self->output);
        self->output = -1;
    }
}

static void say(struct supervisor *self, const char *text, int number)
{
    self->length = (size_t)snprintf(self->line, LINE_BYTES, "vmorch: %s %d", text, number);
    emit_line(self);
}

/* The console is what a person looks at when a guest misbehaves; a serial line is too slow for
 * more than the end. */
static void show_last_lines(struct supervisor *self)
{
    FILE *console = fopen(CONSOLE, "we");
    size_t first = self->lines > LAST_LINES ? self->lines - LAST_LINES : 0;

    if (!console)
        return;
    for (size_t i = first; i < self->lines; i++)
        fputs(self->last[i % LAST_LINES], console);
    fclose(console);
}

static void start(struct supervisor *self)
{
    int ends[2], null;

    if (pipe2(ends, O_CLOEXEC) < 0)
        die(1, "cannot make a pipe");
    self->child = fork();
    if (self->child < 0)
        die(1, "cannot fork");
    if (self->child == 0) {
        setsid();
        null = open("/dev/null", O_RDONLY | O_CLOEXEC);
        dup2(null, STDIN_FILENO);
        dup2(ends[1], STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        exec_service(self->directory);
    }
    close(ends[1]);
    self->output = ends[0];
    fcntl(self->output, F_SETFL, O_NONBLOCK);
    write_state("active", self->child);
}

static enum wish take_signal(struct supervisor *self)
{
    struct signalfd_siginfo info;

    if (read(self->signals, &info, sizeof info) != sizeof info)
        return GO_ON;
    if (info.ssi_signo == SIGHUP)
        return RESTART;
    return info.ssi_signo == SIGTERM ? END : GO_ON;
}

/* The exit code of the service (128 + signal when one killed it), or -1 while it runs. */
static int ended(struct supervisor *self)
{
    int status;

    if (waitpid(self->child, &status, WNOHANG) != self->child)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static long long milliseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* Passes output on until the service has ended. A wish to stop is passed on as its stop signal,
 * and as SIGKILL when it takes longer than the service may. */
static int run(struct supervisor *self, enum wish *wish)
{
    int stop = read_number(self->directory, "stop-signal", SIGTERM), code;
    int patience = read_number(self->directory, "stop-seconds", STOP_SECONDS);
    long long deadline = 0;

    start(self);
    while ((code = ended(self)) < 0) {
        struct pollfd sources[] = {{.fd = self->signals, .events = POLLIN},
                                   {.fd = self->output, .events = POLLIN}};
        poll(sources, 2, deadline ? 100 : -1);
        enum wish next = sources[0].revents & POLLIN ? take_signal(self) : GO_ON;
        if (next != GO_ON && !deadline) {
            kill(self->child, stop);
            deadline = milliseconds() + patience * 1000LL;
        }
        if (next > *wish)
            *wish = next;
        if (self->output >= 0 && sources[1].revents)
            take_output(self);
        if (deadline && milliseconds() > deadline)
            kill(-self->child, SIGKILL);
    }
    return code;
}

static void finish(struct supervisor *self)
{
    struct pollfd output = {.fd = self->output, .events = POLLIN};

    kill(-self->child, SIGKILL);
    while (self->output >= 0 && poll(&output, 1, 0) > 0)
        take_output(self);
    if (self->length)
        emit_line(self);
    if (self->output >= 0)
        close(self->output);
    self->output = -1;
}

/* Whether the service should run once more; waits for the pause before that. */
static int again(struct supervisor *self, int code, enum wish wish)
{
    const char *policy = read_word(self->directory, "restart", "any");
    struct pollfd signals = {.fd = self->signals, .events = POLLIN};
    int stay = !strcmp(policy, "none") || (!strcmp(policy, "on-failure") && code == 0);

    if (wish != GO_ON)
        return wish == RESTART;
    write_state(stay ? (code ? "failed" : "exited") : "activating", code);
    long long until = milliseconds() + RESTART_MILLISECONDS;
    while (stay || milliseconds() < until) {
        poll(&signals, 1, stay ? -1 : (int)(until - milliseconds()));
        wish = signals.revents & POLLIN ? take_signal(self) : GO_ON;
        if (wish != GO_ON)
            return wish == RESTART;
    }
    return 1;
}

static int open_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_SETMASK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int command_supervise(int argc, char **argv)
{
    static struct supervisor self = {.output = -1};
    enum wish wish;
    int code;

    (void)argc;
    self.directory = argv[0];
    self.signals = open_signals();
    self.log = open(LOG_PORT, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    do {
        wish = GO_ON;
        gethostname(self.host, sizeof self.host - 1);
        code = run(&self, &wish);
        finish(&self);
        if (wish == GO_ON) {
            say(&self, "the service ended with exit code", code);
            if (code)
                show_last_lines(&self);
        }
    } while (again(&self, code, wish));
    return 0;
}
