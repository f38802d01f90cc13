// The floor on epoll: the least a server of this kind can do. It finds the end of each head, parses the request line
// and looks for Connection, writes a head with Date and a body of fixed text or a file, and a log line per request.
//   floor-epoll PORT [LOGFILE|- [FILES]]
#define _GNU_SOURCE
#include <sys/epoll.h>
#include "floor.h"

struct connection {
    int fd, have, keep;
    struct floor_file *file;
    off_t at;
    char in[8192];
};

static struct connection *table[65536];

static void drop(struct connection *c)
{
    close(c->fd);
    table[c->fd] = NULL;
    free(c);
}

// Sends what is left of a file; 0 when the connection is over.
static int send_rest(struct connection *c)
{
    while (c->at < c->file->length) {
        ssize_t sent = sendfile(c->fd, c->file->fd, &c->at, c->file->length - c->at);
        if (sent <= 0)
            return sent < 0 && errno == EAGAIN;
    }
    c->file = NULL;
    return c->keep;
}

static int work(struct connection *c)
{
    static char out[65536];
    // What came while a file was on its way was told of then, and is not told of again.
    if (c->file && (!send_rest(c) || c->file))
        return c->file != NULL;
    ssize_t got = recv(c->fd, c->in + c->have, sizeof c->in - c->have, 0);
    if (got <= 0)
        return got < 0 && errno == EAGAIN;
    c->have += (int)got;
    do {
        int length = floor_answer(c->in, &c->have, out, sizeof out, &c->keep, &c->file);
        if (length == 0)
            break;
        if (send(c->fd, out, length, MSG_NOSIGNAL) != length)
            return 0;
        if (c->file) {
            c->at = 0;
            if (!send_rest(c))
                return 0;
        }
    } while (!c->file && c->keep && c->have > 0);
    return c->file || (c->keep && c->have < (int)sizeof c->in);
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
                    c->keep = 1;
                    c->file = NULL;
                    table[got] = c;
                    struct epoll_event added = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.fd = got };
                    epoll_ctl(epoll, EPOLL_CTL_ADD, got, &added);
                } else if (got >= 0) {
                    close(got);
                }
                continue;
            }
            struct connection *c = table[fd];
            if (!c)
                continue;
            if (!work(c))
                drop(c);
        }
        floor_turn_ended();
    }
}
