/* A WebSocket's server (RFC 6455) that sends every message back. One in several frames is not for
 * this one: it ends. */
#include <endian.h>
#include <stdint.h>
#include <stdlib.h>

#include "web_socket.h"

enum { MESSAGE_BYTES = 1 << 20, LAST = 0x80, MASKED = 0x80, CLOSE = 8, PING = 9, PONG = 10 };

static void receive(FILE *in, void *data, size_t count)
{
    if (fread(data, 1, count, in) != count)
        exit(0);
}

static uint64_t receive_length(FILE *in, int first)
{
    uint16_t two;
    uint64_t eight;

    if (first < 126)
        return (uint64_t)first;
    if (first == 126) {
        receive(in, &two, sizeof two);
        return be16toh(two);
    }
    receive(in, &eight, sizeof eight);
    return be64toh(eight);
}

static void send_length(FILE *out, uint64_t length)
{
    uint16_t two = htobe16((uint16_t)length);
    uint64_t eight = htobe64(length);

    if (length < 126) {
        fputc((int)length, out);
    } else if (length < 65536) {
        fputc(126, out);
        fwrite(&two, sizeof two, 1, out);
    } else {
        fputc(127, out);
        fwrite(&eight, sizeof eight, 1, out);
    }
}

/* Clients mask what they send, always. The kind of frame that it was. */
static int send_back(FILE *in, FILE *out, char *message)
{
    unsigned char head[2], mask[4];

    receive(in, head, sizeof head);
    uint64_t length = receive_length(in, head[1] & ~MASKED);
    if (!(head[0] & LAST) || !(head[1] & MASKED) || length > MESSAGE_BYTES)
        exit(1);
    receive(in, mask, sizeof mask);
    receive(in, message, length);
    for (uint64_t i = 0; i < length; i++)
        message[i] = (char)(message[i] ^ mask[i % sizeof mask]);
    int kind = head[0] & 15;
    fputc(LAST | (kind == PING ? PONG : kind), out);
    send_length(out, length);
    fwrite(message, 1, length, out);
    fflush(out);
    return kind;
}

void echo_messages(FILE *in, FILE *out, const char *key)
{
    char accept[29], *message = malloc(MESSAGE_BYTES);

    write_accept_key(key, accept);
    fprintf(out,
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Accept: %s\r\n\r\n",
            accept);
    fflush(out);
    while (send_back(in, out, message) != CLOSE)
        ;
}
