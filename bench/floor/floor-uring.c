// The floor on io_uring, by raw system calls: multishot accept, multishot receive into a ring of provided buffers, a
// send per answer, one submit-and-wait per turn. Parsing, Date and log are floor.h's, as on epoll. It has no sendfile:
// a file that needs it is a head without a body here.
//   floor-uring PORT [LOGFILE|- [FILES]]
#define _GNU_SOURCE
#include <linux/io_uring.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include "floor.h"

enum { ENTRIES = 4096, BUFFERS = 1024, BUFFER_BYTES = 8192, ACCEPT = 1, RECEIVE = 2, SEND = 3, CLOSE = 4 };

struct connection {
    int fd, have, sending, closing;
    char in[8192], out[16384];
};

static struct connection *table[65536];
static struct io_uring_sqe *sqes;
static struct io_uring_cqe *cqes;
static unsigned *sq_head, *sq_tail, *cq_head, *cq_tail, sq_mask, cq_mask, to_submit, local_tail;
static struct io_uring_buf_ring *ring_buffers;
static char *buffer_memory;
static int ring;

static int enter(unsigned submit, unsigned wait, unsigned flags)
{
    return (int)syscall(__NR_io_uring_enter, ring, submit, wait, flags, NULL, 0);
}

static struct io_uring_sqe *next_sqe(void)
{
    while (local_tail - __atomic_load_n(sq_head, __ATOMIC_ACQUIRE) > sq_mask) {
        __atomic_store_n(sq_tail, local_tail, __ATOMIC_RELEASE);
        enter(to_submit, 0, 0);
        to_submit = 0;
    }
    struct io_uring_sqe *sqe = &sqes[local_tail++ & sq_mask];
    memset(sqe, 0, sizeof *sqe);
    to_submit++;
    return sqe;
}

static void give_back(int id)
{
    struct io_uring_buf *buf = &ring_buffers->bufs[ring_buffers->tail & (BUFFERS - 1)];
    buf->addr = (uint64_t)(uintptr_t)(buffer_memory + (size_t)id * BUFFER_BYTES);
    buf->len = BUFFER_BYTES;
    buf->bid = (uint16_t)id;
    __atomic_store_n(&ring_buffers->tail, (uint16_t)(ring_buffers->tail + 1), __ATOMIC_RELEASE);
}

static void set_up(void)
{
    struct io_uring_params p = { .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN
        | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE, .cq_entries = ENTRIES * 8 };
    ring = (int)syscall(__NR_io_uring_setup, ENTRIES, &p);
    if (ring < 0) {
        perror("floor: io_uring_setup");
        exit(1);
    }
    size_t sq_bytes = p.sq_off.array + p.sq_entries * sizeof(unsigned);
    size_t cq_bytes = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
    size_t bytes = sq_bytes > cq_bytes ? sq_bytes : cq_bytes;
    char *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQ_RING);
    sqes = mmap(NULL, p.sq_entries * sizeof *sqes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring,
                IORING_OFF_SQES);
    sq_head = (unsigned *)(at + p.sq_off.head);
    sq_tail = (unsigned *)(at + p.sq_off.tail);
    sq_mask = *(unsigned *)(at + p.sq_off.ring_mask);
    unsigned *array = (unsigned *)(at + p.sq_off.array);
    for (unsigned i = 0; i < p.sq_entries; i++)
        array[i] = i;
    cq_head = (unsigned *)(at + p.cq_off.head);
    cq_tail = (unsigned *)(at + p.cq_off.tail);
    cq_mask = *(unsigned *)(at + p.cq_off.ring_mask);
    cqes = (struct io_uring_cqe *)(at + p.cq_off.cqes);
    ring_buffers = mmap(NULL, BUFFERS * sizeof(struct io_uring_buf), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    buffer_memory = malloc((size_t)BUFFERS * BUFFER_BYTES);
    struct io_uring_buf_reg reg = { .ring_addr = (uint64_t)(uintptr_t)ring_buffers, .ring_entries = BUFFERS };
    if (syscall(__NR_io_uring_register, ring, IORING_REGISTER_PBUF_RING, &reg, 1) < 0) {
        perror("floor: buffer ring");
        exit(1);
    }
    for (int i = 0; i < BUFFERS; i++)
        give_back(i);
}

static void arm_accept(int listener)
{
    struct io_uring_sqe *sqe = next_sqe();
    sqe->opcode = IORING_OP_ACCEPT;
    sqe->fd = listener;
    sqe->ioprio = IORING_ACCEPT_MULTISHOT;
    sqe->user_data = ACCEPT;
}

static void arm_receive(int fd)
{
    struct io_uring_sqe *sqe = next_sqe();
    sqe->opcode = IORING_OP_RECV;
    sqe->fd = fd;
    sqe->ioprio = IORING_RECV_MULTISHOT;
    sqe->flags = IOSQE_BUFFER_SELECT;
    sqe->user_data = RECEIVE | (uint64_t)fd << 8;
}

static void queue_close(struct connection *c)
{
    c->closing = 1;
    if (c->sending)
        return;
    table[c->fd] = NULL;
    // The multishot receive keeps the file open; shutting down ends it.
    struct io_uring_sqe *sqe = next_sqe();
    sqe->opcode = IORING_OP_SHUTDOWN;
    sqe->fd = c->fd;
    sqe->len = SHUT_RDWR;
    sqe->flags = IOSQE_IO_HARDLINK | IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = CLOSE;
    sqe = next_sqe();
    sqe->opcode = IORING_OP_CLOSE;
    sqe->fd = c->fd;
    sqe->user_data = CLOSE;
    free(c);
}

static void answer(struct connection *c)
{
    struct floor_file *file;
    int keep = 1, length = floor_answer(c->in, &c->have, c->out, sizeof c->out, &keep, &file);
    keep &= file == NULL;
    c->closing |= !keep || c->have == (int)sizeof c->in;
    if (length > 0) {
        c->sending = 1;
        struct io_uring_sqe *sqe = next_sqe();
        sqe->opcode = IORING_OP_SEND;
        sqe->fd = c->fd;
        sqe->addr = (uint64_t)(uintptr_t)c->out;
        sqe->len = (unsigned)length;
        sqe->msg_flags = MSG_NOSIGNAL | MSG_WAITALL;
        sqe->user_data = SEND | (uint64_t)c->fd << 8;
    } else if (c->closing) {
        queue_close(c);
    }
}

static void received(int fd, struct io_uring_cqe *cqe)
{
    struct connection *c = table[fd];
    if (cqe->flags & IORING_CQE_F_BUFFER) {
        int id = (int)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
        if (c && cqe->res > 0 && !c->closing && cqe->res <= (int)sizeof c->in - c->have) {
            memcpy(c->in + c->have, buffer_memory + (size_t)id * BUFFER_BYTES, cqe->res);
            c->have += cqe->res;
        }
        give_back(id);
    }
    if (!c)
        return;
    if (cqe->res == -ENOBUFS || (cqe->res > 0 && !(cqe->flags & IORING_CQE_F_MORE)))
        arm_receive(fd);
    if (cqe->res <= 0 && cqe->res != -ENOBUFS)
        queue_close(c);
    else if (cqe->res > 0 && !c->sending && !c->closing)
        answer(c);
}

int main(int argc, char **argv)
{
    int listener = floor_listen(argc, argv, 0);
    set_up();
    arm_accept(listener);
    for (;;) {
        __atomic_store_n(sq_tail, local_tail, __ATOMIC_RELEASE);
        unsigned submit = to_submit;
        to_submit = 0;
        enter(submit, 1, IORING_ENTER_GETEVENTS);
        floor_tick();
        unsigned head = *cq_head, tail = __atomic_load_n(cq_tail, __ATOMIC_ACQUIRE);
        for (; head != tail; head++) {
            struct io_uring_cqe *cqe = &cqes[head & cq_mask];
            int kind = cqe->user_data & 255, fd = (int)(cqe->user_data >> 8);
            if (kind == ACCEPT) {
                if (cqe->res >= 0 && cqe->res < 65536) {
                    struct connection *c = calloc(1, sizeof *c);
                    c->fd = cqe->res;
                    table[c->fd] = c;
                    arm_receive(c->fd);
                } else if (cqe->res >= 0) {
                    close(cqe->res);
                }
                if (!(cqe->flags & IORING_CQE_F_MORE))
                    arm_accept(listener);
            } else if (kind == RECEIVE) {
                received(fd, cqe);
            } else if (kind == SEND && table[fd]) {
                struct connection *c = table[fd];
                c->sending = 0;
                if (cqe->res < 0 || c->closing)
                    queue_close(c);
                else if (c->have > 0)
                    answer(c);
            }
        }
        __atomic_store_n(cq_head, head, __ATOMIC_RELEASE);
        floor_turn_ended();
    }
}
