/* The answer of a WebSocket's server (RFC 6455, 4.2.2): base64 of SHA-1 of the key and a fixed
 * text. Written out, as static programs for guests link nothing but the C library. */
#include <endian.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "web_socket.h"

enum { KEY_SIGNS = 24, BLOCK = 64, ROUNDS = 80 };

static uint32_t rotated(uint32_t word, int by)
{
    return word << by | word >> (32 - by);
}

/* One of the four functions of FIPS 180-4, 4.1.1, with its constant. */
static uint32_t mixed(int round, uint32_t b, uint32_t c, uint32_t d)
{
    if (round < 20)
        return ((b & c) | (~b & d)) + 0x5a827999;
    if (round < 40)
        return (b ^ c ^ d) + 0x6ed9eba1;
    if (round < 60)
        return ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc;
    return (b ^ c ^ d) + 0xca62c1d6;
}

static void add_block(uint32_t state[5], const unsigned char block[BLOCK])
{
    uint32_t w[ROUNDS], v[5];

    memcpy(w, block, BLOCK);
    for (int i = 0; i < 16; i++)
        w[i] = be32toh(w[i]);
    for (int i = 16; i < ROUNDS; i++)
        w[i] = rotated(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    memcpy(v, state, sizeof v);
    for (int i = 0; i < ROUNDS; i++) {
        uint32_t next = rotated(v[0], 5) + mixed(i, v[1], v[2], v[3]) + v[4] + w[i];
        memmove(v + 1, v, 4 * sizeof *v);
        v[2] = rotated(v[2], 30);
        v[0] = next;
    }
    for (int i = 0; i < 5; i++)
        state[i] += v[i];
}

/* Key and text are 60 signs: with what SHA-1 adds to them, always two blocks. */
static void digest(const char *text, uint32_t state[5])
{
    unsigned char blocks[2 * BLOCK] = {0};
    uint64_t bits = htobe64(8 * strlen(text));

    memcpy(state, (uint32_t[]){0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0}, 20);
    memcpy(blocks, text, strlen(text));
    blocks[strlen(text)] = 0x80;
    memcpy(blocks + 2 * BLOCK - sizeof bits, &bits, sizeof bits);
    add_block(state, blocks);
    add_block(state, blocks + BLOCK);
    for (int i = 0; i < 5; i++)
        state[i] = htobe32(state[i]);
}

/* 20 bytes are 27 digits and one sign that fills them up. */
static void write_base64(const unsigned char *bytes, char out[29])
{
    const char *digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (int i = 0; i < 27; i++) {
        int at = 6 * i / 8, shift = 10 - 6 * i % 8;
        int pair = bytes[at] << 8 | (at < 19 ? bytes[at + 1] : 0);
        out[i] = digits[pair >> shift & 63];
    }
    strcpy(out + 27, "=");
}

void write_accept_key(const char *key, char accept[29])
{
    char text[KEY_SIGNS + 36 + 1];
    uint32_t hash[5];

    snprintf(text, sizeof text, "%.*s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", KEY_SIGNS, key);
    digest(text, hash);
    write_base64((const unsigned char *)hash, accept);
}
