/* A small HTTP server for guests, with a process for each connection.
 *
 *   server PORT MILLISECONDS
 *
 * A GET is answered with the host's name, that of /slow after so many milliseconds, in which it
 * needs no processor: how much is in flight is then up to the clients alone. A request for a
 * WebSocket gets one that echoes. Bodies are not for this one. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "web_socket.h"

enum { LINE = 8192, NAME = 65 };

static const char KEY[] = "Sec-WebSocket-Key: ";

static void check(int fine, const char *what)
{
    if (!fine) {
        perror(what);
        exit(1);
    }
}

/* The next request: whether it is for the slow page, and its WebSocket's key, if it wants one.
 * 0: there is no more. */
static int receive_request(FILE *in, int *slow, char key[LINE])
{
    char line[LINE];

    key[0] = 0;
    if (!fgets(line, sizeof line, in))
        return 0;
    *slow = !strncmp(line, "GET /slow ", 10);
    while (fgets(line, sizeof line, in) && strcmp(line, "\r\n") != 0)
        if (!strncasecmp(line, KEY, strlen(KEY)))
            strcpy(key, line + strlen(KEY));
    return !feof(in);
}

static void serve(int client, long milliseconds)
{
    const struct timespec pause = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    FILE *in = fdopen(client, "r"), *out = fdopen(dup(client), "w");
    char name[NAME] = "", key[LINE];
    int slow = 0;

    gethostname(name, sizeof name - 1);
    while (receive_request(in, &slow, key)) {
        if (key[0]) {
            echo_messages(in, out, key);
            return;
        }
        if (slow)
            nanosleep(&pause, NULL);
        fprintf(out, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s\n", strlen(name) + 1, name);
        fflush(out);
    }
}

static int listening(int port)
{
    const struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);

    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    check(bind(listener, (const struct sockaddr *)&where, sizeof where) == 0, "bind");
    check(listen(listener, 128) == 0, "listen");
    return listener;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    int listener = listening(atoi(argv[1]));
    signal(SIGCHLD, SIG_IGN);
    for (;;) {
        int client = accept(listener, NULL, NULL);
        if (client >= 0 && fork() == 0) {
            close(listener);
            serve(client, atol(argv[2]));
            return 0;
        }
        close(client);
    }
}
