// An open-loop HTTP/1.1 client: requests leave when the clock says so, whether or not earlier ones were answered, and
// latency counts from the moment a request should have left. One thread, epoll, keep-alive connections. Prints one JSON
// object. A status other than 2xx, a short body or a lost connection is an error.
//   openloop HOST PORT PATH RATE CONNECTIONS SECONDS [HEADER…]
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct client {
    int fd;
    int next;               // in the queue of free ones, -1 at its end
    int64_t due;            // when the request under way should have left, ns
    char head[4096];
    int have;               // bytes of the head so far
    int64_t body;           // bytes of the body still to come, -1 while the head is read, -2 for chunked
    char tail[5];           // last bytes of a chunked body
};

static struct client *clients;
static int free_first = -1, free_last, epoll_fd;
// A machine that stands still for some milliseconds now and then gives every server the same p99 over a whole run: that
// of its quarters of a second, the median of them, is the server's.
#define SLICES_A_SECOND 4
static int64_t *latency;
static int *slice;          // of each latency, by when its request should have left
static int64_t began;
static long done, sent, errors, late;
static char request[8192];
static int request_length;
static struct sockaddr_in address;

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static void open_client(int i)
{
    struct client *c = &clients[i];
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address) != 0) {
        perror("openloop: connect");
        exit(1);
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    // A reset at the end: thousands in TIME_WAIT would leave it a minute later, in another server's measurement.
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event e = { .events = EPOLLIN, .data.u32 = i };
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &e);
}

// Whoever has waited longest goes next, so that all of them are used however many there are.
static void release(int i)
{
    clients[i].next = -1;
    if (free_first < 0)
        free_first = i;
    else
        clients[free_last].next = i;
    free_last = i;
}

static void finish(int i, int good)
{
    struct client *c = &clients[i];
    if (good) {
        slice[done] = (int)((c->due - began) * SLICES_A_SECOND / 1000000000);
        latency[done++] = now() - c->due;
    } else {
        errors++;
    }
    c->due = 0;
    release(i);
}

static void start(int i, int64_t due)
{
    struct client *c = &clients[i];
    c->due = due;
    c->have = 0;
    c->body = -1;
    memset(c->tail, 0, sizeof c->tail);
    sent++;
    if (send(c->fd, request, request_length, MSG_NOSIGNAL) != request_length)
        finish(i, 0);
}

// True when the answer is complete.
static int feed(struct client *c, const char *bytes, int n, int *bad)
{
    if (c->body == -1) {
        int room = (int)sizeof c->head - 1 - c->have, take = n < room ? n : room;
        memcpy(c->head + c->have, bytes, take);
        c->have += take;
        c->head[c->have] = 0;
        char *end = strstr(c->head, "\r\n\r\n");
        if (!end) {
            *bad = c->have == (int)sizeof c->head - 1;
            return 0;
        }
        if (strncmp(c->head, "HTTP/1.1 2", 10) != 0)
            *bad = 1;
        int extra = c->have - (int)(end + 4 - c->head), skipped = take - extra;
        char *length = strcasestr(c->head, "\r\ncontent-length:");
        if (length && length < end)
            c->body = atoll(length + 17);
        else
            c->body = strcasestr(c->head, "\r\ntransfer-encoding: chunked") ? -2 : 0;
        bytes += skipped;
        n -= skipped;
    }
    if (c->body == -2) {
        for (int k = n > 5 ? n - 5 : 0; k < n; k++) {
            memmove(c->tail, c->tail + 1, 4);
            c->tail[4] = bytes[k];
        }
        return memcmp(c->tail, "0\r\n\r\n", 5) == 0;
    }
    if (n > c->body)
        *bad = 1;
    c->body -= n;
    return c->body <= 0;
}

static void reopen(int i)
{
    close(clients[i].fd);
    open_client(i);
}

static void readable(int i)
{
    static char buffer[256 * 1024];
    struct client *c = &clients[i];
    for (;;) {
        ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            if (c->due)
                finish(i, 0);
            reopen(i);
            return;
        }
        if (!c->due) {
            errors++;
            continue;
        }
        int bad = 0;
        if (feed(c, buffer, (int)n, &bad) || bad) {
            finish(i, !bad);
            if (bad)
                reopen(i);
            return;
        }
        if (n < (ssize_t)sizeof buffer)
            return;
    }
}

static double at(double share)
{
    return done ? latency[(long)((done - 1) * share)] / 1000.0 : 0;
}

// The median of the slices' p99, in microseconds.
static double median_p99(void)
{
    int slices = 0, have = 0;
    for (long i = 0; i < done; i++)
        if (slice[i] >= slices)
            slices = slice[i] + 1;
    int64_t *own = malloc((done + 1) * sizeof *own), *p99 = malloc((slices + 1) * sizeof *p99);
    for (int k = 0; k < slices; k++) {
        long count = 0;
        for (long i = 0; i < done; i++)
            if (slice[i] == k)
                own[count++] = latency[i];
        if (count == 0)
            continue;
        qsort(own, count, sizeof *own, compare);
        p99[have++] = own[(long)((count - 1) * 0.99)];
    }
    qsort(p99, have, sizeof *p99, compare);
    double median = have ? p99[have / 2] / 1000.0 : 0;
    free(own);
    free(p99);
    return median;
}

int main(int argc, char **argv)
{
    if (argc < 7) {
        fprintf(stderr, "usage: openloop HOST PORT PATH RATE CONNECTIONS SECONDS [HEADER...]\n");
        return 2;
    }
    double rate = atof(argv[4]), seconds = atof(argv[6]);
    int count = atoi(argv[5]);
    long planned = (long)(rate * seconds);
    request_length = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: localhost\r\n", argv[3]);
    for (int i = 7; i < argc; i++)
        request_length += snprintf(request + request_length, sizeof request - request_length, "%s\r\n", argv[i]);
    request_length += snprintf(request + request_length, sizeof request - request_length, "\r\n");
    address.sin_family = AF_INET;
    address.sin_port = htons(atoi(argv[2]));
    inet_pton(AF_INET, argv[1], &address.sin_addr);
    clients = calloc(count, sizeof *clients);
    latency = calloc(planned + 1, sizeof *latency);
    slice = calloc(planned + 1, sizeof *slice);
    epoll_fd = epoll_create1(0);
    for (int i = 0; i < count; i++) {
        open_client(i);
        release(i);
    }
    // A connection is there before the server has accepted it: with thousands, that is not what is measured.
    usleep(count * 50);
    began = now();
    int64_t next_due = began, gap = (int64_t)(1e9 / rate), last = began + (int64_t)(seconds * 1e9);
    long begun = 0;
    struct epoll_event events[256];
    while (begun < planned || done + errors < sent) {
        int64_t t = now();
        while (begun < planned && next_due <= t && free_first >= 0) {
            int i = free_first;
            free_first = clients[i].next;
            if (t - next_due > gap * 10)
                late++;
            start(i, next_due);
            begun++;
            next_due += gap;
        }
        if (t > last + 5000000000LL)
            break;
        // Waiting is rounded down to the millisecond and the rest is spun away, or the clock would be epoll's.
        int64_t wait = begun < planned && free_first >= 0 ? (next_due - now()) / 1000000 : 100;
        int n = epoll_wait(epoll_fd, events, 256, wait < 0 ? 0 : (int)wait);
        for (int k = 0; k < n; k++)
            readable(events[k].data.u32);
    }
    errors += planned - done - errors > 0 ? planned - done - errors : 0;
    double calm = median_p99();
    qsort(latency, done, sizeof *latency, compare);
    printf("{\"planned\":%ld,\"answered\":%ld,\"errors\":%ld,\"late\":%ld,\"rps\":%.1f,\"p50_us\":%.1f,"
           "\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f,\"slice_p99_us\":%.1f}\n",
           planned, done, errors, late, done / ((now() - began) / 1e9), at(0.5), at(0.99), at(0.999), at(1), calm);
    return 0;
}
