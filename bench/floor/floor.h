// What both floors share: the listening socket, the clock, finding heads, writing answers and log lines. Files are the
// bench's, opened at the start: /f/N.html leaves out of memory behind its head, /b/N.bin and /l/N.bin by sendfile.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int floor_log = -1, floor_log_used;
static char floor_log_buffer[1 << 20], floor_date[64], floor_log_time[64];
static time_t floor_second;

// A file of the bench: what its head says of it, and its bytes (small) or its descriptor (large).
struct floor_file {
    int fd, length;
    char *body, head[192];
};

static struct floor_file floor_small[1000], floor_large[100], floor_huge[4];

static void floor_load(struct floor_file *files, int count, const char *pattern, const char *place, int in_memory)
{
    for (int i = 0; i < count; i++) {
        char path[4096];
        int at = snprintf(path, sizeof path, "%s", place);
        snprintf(path + at, sizeof path - at, pattern, i);
        struct stat s;
        struct floor_file *file = &files[i];
        file->fd = open(path, O_RDONLY | O_CLOEXEC);
        if (file->fd < 0 || fstat(file->fd, &s) != 0) {
            perror(path);
            exit(1);
        }
        file->length = (int)s.st_size;
        char modified[64];
        struct tm t;
        gmtime_r(&s.st_mtime, &t);
        strftime(modified, sizeof modified, "%a, %d %b %Y %H:%M:%S GMT", &t);
        snprintf(file->head, sizeof file->head, "Content-Type: %s\r\nContent-Length: %d\r\nLast-Modified: %s\r\n"
                 "ETag: \"%lx-%x\"\r\nAccept-Ranges: bytes\r\n",
                 in_memory ? "text/html" : "application/octet-stream", file->length, modified, (long)s.st_mtime,
                 file->length);
        if (in_memory) {
            file->body = malloc(file->length);
            if (pread(file->fd, file->body, file->length, 0) != file->length)
                exit(1);
            close(file->fd);
        }
    }
}

// The file that a target names, or null.
static struct floor_file *floor_find(const char *target)
{
    if (!floor_small[0].body || target[0] != '/' || !target[1] || target[2] != '/')
        return NULL;
    int number = atoi(target + 3);
    if (number < 0)
        return NULL;
    switch (target[1]) {
    case 'f': return number < 1000 ? &floor_small[number] : NULL;
    case 'b': return number < 100 ? &floor_large[number] : NULL;
    case 'l': return number < 4 ? &floor_huge[number] : NULL;
    default: return NULL;
    }
}

static int floor_listen(int argc, char **argv, int flags)
{
    if (argc < 2) {
        fprintf(stderr, "usage: %s PORT [LOGFILE|- [FILES]]\n", argv[0]);
        exit(2);
    }
    if (argc > 3) {
        floor_load(floor_small, 1000, "/f/%d.html", argv[3], 1);
        floor_load(floor_large, 100, "/b/%d.bin", argv[3], 0);
        floor_load(floor_huge, 4, "/l/%d.bin", argv[3], 0);
    }
    if (argc > 2 && strcmp(argv[2], "-") != 0)
        floor_log = open(argv[2], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    signal(SIGPIPE, SIG_IGN);
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

// Answers every complete head in the buffer and moves what is left to its front. The length of the answers; after them
// `*file` has to follow, if it is not null.
static int floor_answer(char *in, int *have, char *out, int room, int *keep, struct floor_file **file)
{
    static const char body[] = "hello, world\n";
    int used = 0, at = 0;
    *file = NULL;
    while (*keep && !*file && room - used > 2048) {
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
        struct floor_file *found = floor_find(target + 1);
        int length = found ? found->length : (int)sizeof body - 1;
        if (found) {
            used += sprintf(out + used, "HTTP/1.1 200 OK\r\nServer: floor\r\n%s%sConnection: %s\r\n\r\n", floor_date,
                            found->head, *keep ? "keep-alive" : "close");
            if (found->body) {
                memcpy(out + used, found->body, found->length);
                used += found->length;
            } else {
                *file = found;
            }
        } else {
            used += sprintf(out + used, "HTTP/1.1 200 OK\r\nServer: floor\r\n%sContent-Type: text/plain\r\n"
                            "Content-Length: %d\r\nConnection: %s\r\n\r\n%s", floor_date, length,
                            *keep ? "keep-alive" : "close", body);
        }
        if (floor_log >= 0) {
            if (floor_log_used > (int)sizeof floor_log_buffer - 9216)
                floor_turn_ended();
            floor_log_used += snprintf(floor_log_buffer + floor_log_used, 9000,
                                       "127.0.0.1 - - %s \"%.*s\" 200 %d \"-\" \"-\"\n", floor_log_time,
                                       (int)(line - head), head, length);
        }
        at = (int)(end + 4 - in);
    }
    memmove(in, in + at, *have - at);
    *have -= at;
    return used;
}
