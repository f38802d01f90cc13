// The floor on epoll: the least a server of this kind can do. It finds the end of each head, parses the request line
// and looks for Connection, writes a head with Date and a body of fixed text, and a log line per request.
//   floor-epoll PORT LOGFILE
#define _GNU_SOURCE
#include <sys/epoll.h>
#include "floor.h"

struct connection {
    int fd, have;
    char in[8192];
};

static struct connection *table[65536];

static void drop(struct connection *c)
{
    close(c->fd);
    table[c->fd] = NULL;
    free(c);
}

int main(int argc, char **argv)
{
    int listener = floor_listen(argc, argv, SOCK_NONBLOCK), epoll = epoll_create1(0);
    struct epoll_event e = { .events = EPOLLIN, .data.fd = listener }, events[512];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &e);
    for (;;) {
        int n = epoll_wait(epoll, events, 512, -1);
        floor_tick();
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                int got = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                if (got >= 0 && got < 65536) {
                    struct connection *c = malloc(sizeof *c);
                    c->fd = got;
                    c->have = 0;
                    table[got] = c;
                    struct epoll_event added = { .events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.fd = got };
                    epoll_ctl(epoll, EPOLL_CTL_ADD, got, &added);
                } else if (got >= 0) {
                    close(got);
                }
                continue;
            }
            struct connection *c = table[fd];
            if (!c)
                continue;
            ssize_t got = recv(fd, c->in + c->have, sizeof c->in - c->have, 0);
            if (got <= 0) {
                if (got == 0 || errno != EAGAIN)
                    drop(c);
                continue;
            }
            c->have += (int)got;
            static char out[65536];
            int keep = 1, length = floor_answer(c->in, &c->have, out, sizeof out, &keep);
            if (length > 0 && send(fd, out, length, MSG_NOSIGNAL) != length)
                keep = 0;
            if (!keep || c->have == (int)sizeof c->in)
                drop(c);
        }
        floor_turn_ended();
    }
}
