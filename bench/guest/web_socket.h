#ifndef WEB_SOCKET_H
#define WEB_SOCKET_H

#include <stdio.h>

/* What a server answers to the 24 signs of a client's Sec-WebSocket-Key. */
void write_accept_key(const char *key, char accept[29]);

/* Grant a WebSocket, and send every message back until the client closes it or is gone. */
void echo_messages(FILE *in, FILE *out, const char *key);

#endif
