// What both floors share: the listening socket, the clock, finding heads, writing answers and log lines.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int floor_log = -1, floor_log_used;
static char floor_log_buffer[1 << 20], floor_date[64], floor_log_time[64];
static time_t floor_second;

static int floor_listen(int argc, char **argv, int flags)
{
    if (argc < 2) {
        fprintf(stderr, "usage: %s PORT [LOGFILE]\n", argv[0]);
        exit(2);
    }
    if (argc > 2)
        floor_log = open(argv[2], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | flags, 0);
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[1])) };
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 4096) != 0) {
        perror("floor");
        exit(1);
    }
    return fd;
}

static void floor_tick(void)
{
    time_t now = time(NULL);
    if (now != floor_second) {
        floor_second = now;
        struct tm t;
        gmtime_r(&now, &t);
        strftime(floor_date, sizeof floor_date, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &t);
        strftime(floor_log_time, sizeof floor_log_time, "[%d/%b/%Y:%H:%M:%S +0000]", &t);
    }
}

static void floor_turn_ended(void)
{
    if (floor_log_used > 0) {
        if (floor_log >= 0 && write(floor_log, floor_log_buffer, floor_log_used) < 0)
            perror("floor: log");
        floor_log_used = 0;
    }
}

// Answers every complete head in the buffer and moves what is left to its front. The length of the answers.
static int floor_answer(char *in, int *have, char *out, int room, int *keep)
{
    static const char body[] = "hello, world\n";
    int used = 0, at = 0;
    while (*keep && room - used > 512) {
        char *head = in + at, *end = memmem(head, *have - at, "\r\n\r\n", 4);
        if (!end)
            break;
        char *line = memchr(head, '\r', end + 2 - head);
        char *target = memchr(head, ' ', line - head), *version = target ? memrchr(head, ' ', line - head) : NULL;
        if (!target || version <= target || line - version != 9) {
            *keep = 0;
            break;
        }
        for (char *name = line + 2; name < end; ) {
            char *stop = memchr(name, '\r', end + 2 - name), *colon = memchr(name, ':', stop - name);
            if (colon && colon - name == 10 && strncasecmp(name, "connection", 10) == 0
                && memmem(colon, stop - colon, "close", 5))
                *keep = 0;
            name = stop + 2;
        }
        used += sprintf(out + used, "HTTP/1.1 200 OK\r\nServer: floor\r\n%sContent-Type: text/plain\r\n"
                        "Content-Length: %d\r\nConnection: %s\r\n\r\n%s", floor_date, (int)sizeof body - 1,
                        *keep ? "keep-alive" : "close", body);
        if (floor_log >= 0) {
            if (floor_log_used > (int)sizeof floor_log_buffer - 9216)
                floor_turn_ended();
            floor_log_used += snprintf(floor_log_buffer + floor_log_used, 9000,
                                       "127.0.0.1 - - %s \"%.*s\" 200 13 \"-\" \"-\"\n", floor_log_time,
                                       (int)(line - head), head);
        }
        at = (int)(end + 4 - in);
    }
    memmove(in, in + at, *have - at);
    *have -= at;
    return used;
}
