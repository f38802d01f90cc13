// A gRPC server that does the least: HTTP/2 by prior knowledge on epoll, one thread. It looks at no header; to every
// request that is complete it answers with a head, its first message back, and trailers. For bench/grpc.
//   grpc-echo PORT
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BODY_MAX = 4096, STREAMS = 4096, IN_MAX = 256 * 1024, OUT_MAX = 1024 * 1024 };

struct stream { uint32_t id; int have; unsigned char body[BODY_MAX]; };

struct connection {
    int fd, have, out, greeted;
    uint32_t taken;
    struct stream *streams[STREAMS];
    unsigned char in[IN_MAX], reply[OUT_MAX];
};

static struct connection *table[65536];

static unsigned char *frame(unsigned char *p, uint32_t length, int type, int flags, uint32_t id)
{
    p[0] = length >> 16; p[1] = length >> 8; p[2] = length;
    p[3] = type; p[4] = flags;
    id = htonl(id);
    memcpy(p + 5, &id, 4);
    return p + 9;
}

static unsigned char *text(unsigned char *p, const char *s)
{
    *p++ = strlen(s);
    memcpy(p, s, strlen(s));
    return p + strlen(s);
}

static void answer(struct connection *c, struct stream *s)
{
    unsigned char *p = c->reply + c->out, *head = p;
    p += 9;
    *p++ = 0x88;
    *p++ = 0x0f; *p++ = 0x10;
    p = text(p, "application/grpc");
    frame(head, p - head - 9, 1, 4, s->id);
    p = frame(p, s->have, 0, 0, s->id);
    memcpy(p, s->body, s->have);
    head = p += s->have;
    p += 9;
    *p++ = 0;
    p = text(p, "grpc-status");
    p = text(p, "0");
    frame(head, p - head - 9, 1, 5, s->id);
    c->out = p - c->reply;
}

static int take(struct connection *c)
{
    unsigned char *p = c->in, *end = c->in + c->have;
    if (!c->greeted) {
        if (c->have < 24) return 0;
        p += 24;
        unsigned char *q = frame(c->reply + c->out, 6, 4, 0, 0);
        memcpy(q, "\0\3\0\0\2\0", 6);
        c->out = q + 6 - c->reply;
        c->greeted = 1;
    }
    while (end - p >= 9) {
        uint32_t length = p[0] << 16 | p[1] << 8 | p[2], id;
        if (end - p < 9 + (int)length) break;
        memcpy(&id, p + 5, 4);
        id = ntohl(id) & 0x7fffffff;
        int type = p[3], flags = p[4];
        unsigned char *payload = p + 9;
        struct stream **slot = &c->streams[id / 2 % STREAMS];
        if (type == 4 && !(flags & 1)) {
            c->out = frame(c->reply + c->out, 0, 4, 1, 0) - c->reply;
        } else if (type == 6 && !(flags & 1)) {
            unsigned char *q = frame(c->reply + c->out, 8, 6, 1, 0);
            memcpy(q, payload, 8);
            c->out = q + 8 - c->reply;
        } else if (type == 1) {
            if (!*slot) *slot = malloc(sizeof **slot);
            (*slot)->id = id;
            (*slot)->have = 0;
        } else if (type == 0 && *slot && (*slot)->id == id) {
            if ((*slot)->have + length <= BODY_MAX) {
                memcpy((*slot)->body + (*slot)->have, payload, length);
                (*slot)->have += length;
            }
            c->taken += length;
        }
        if ((type == 0 || type == 1) && flags & 1 && *slot && (*slot)->id == id) answer(c, *slot);
        p += 9 + length;
        if (OUT_MAX - c->out < 16 * 1024) break;
    }
    if (c->taken >= 16 * 1024) {
        unsigned char *q = frame(c->reply + c->out, 4, 8, 0, 0);
        uint32_t more = htonl(c->taken);
        memcpy(q, &more, 4);
        c->out = q + 4 - c->reply;
        c->taken = 0;
    }
    int used = p - c->in;
    memmove(c->in, p, c->have - used);
    c->have -= used;
    return used;
}

static void drop(struct connection *c)
{
    close(c->fd);
    table[c->fd] = NULL;
    for (int i = 0; i < STREAMS; i++) free(c->streams[i]);
    free(c);
}

static int flush(struct connection *c)
{
    int at = 0;
    while (at < c->out) {
        int n = send(c->fd, c->reply + at, c->out - at, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return -1;
        at += n;
    }
    c->out = 0;
    return 0;
}

int main(int argc, char **argv)
{
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1, epoll = epoll_create1(0);
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    if (argc < 2) return 2;
    a.sin_port = htons(atoi(argv[1]));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&a, sizeof a) || listen(listener, 4096)) { perror("grpc-echo"); return 1; }
    struct epoll_event e = { .events = EPOLLIN, .data.fd = listener }, events[512];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &e);
    for (;;) {
        int n = epoll_wait(epoll, events, 512, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                while ((fd = accept4(listener, NULL, NULL, 0)) >= 0) {
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                    table[fd] = calloc(1, sizeof **table);
                    table[fd]->fd = fd;
                    e.data.fd = fd;
                    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e);
                }
                continue;
            }
            struct connection *c = table[fd];
            int got = recv(fd, c->in + c->have, IN_MAX - c->have, 0);
            if (got <= 0) { drop(c); continue; }
            c->have += got;
            while (take(c) > 0 && flush(c) == 0) {}
            if (c->out && flush(c)) drop(c);
        }
    }
}
