// By hand: epoll, level-triggered, with one read and one write for each message. This is the base
// of the ratios.
// Additional option: --spin MICROSECONDS, the time for which it polls before it sleeps.
#include <sys/epoll.h>

#include "echo.h"

enum { BATCH = 1024 };

typedef struct Source {
    void (*handle)(struct Source *source);
    int fd;
    Rest *rest;
} Source;

static int epoll;
static uint64_t spin_ns;

static void watch(int operation, Source *source, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = source};
    checked(epoll_ctl(epoll, operation, source->fd, &event), "epoll_ctl");
}

static void serve(Source *source) {
    State before = source->rest ? WRITES : READS;
    State after = before == READS ? echo(source->fd, &source->rest) : write_rest(source->fd, &source->rest);
    if (after == ENDED) {
        close(source->fd);
        free(source->rest);
        free(source);
    } else if (after != before) {
        watch(EPOLL_CTL_MOD, source, after == READS ? EPOLLIN : EPOLLOUT);
    }
}

static void add(void (*handle)(Source *source), int fd) {
    Source *source = malloc(sizeof *source);
    *source = (Source){handle, fd, NULL};
    watch(EPOLL_CTL_ADD, source, EPOLLIN);
}

static void accept_all(Source *listener) {
    int socket;
    while ((socket = accept_next(listener->fd)) >= 0) add(serve, socket);
}

static int wait_for(struct epoll_event *ready) {
    if (spin_ns) {
        uint64_t until = now_ns() + spin_ns;
        do {
            int count = epoll_wait(epoll, ready, BATCH, 0);
            if (count) return count;
        } while (now_ns() < until);
    }
    return epoll_wait(epoll, ready, BATCH, -1);
}

int main(int argc, char **argv) {
    static struct epoll_event ready[BATCH];
    spin_ns = 1000 * number(argc, argv, "--spin", 0);
    epoll = checked(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    add(accept_all, open_listener());
    for (;;) {
        int count = wait_for(ready);
        if (count < 0 && errno != EINTR) fail("epoll_wait");
        for (int i = 0; i < count; i++) {
            Source *source = ready[i].data.ptr;
            source->handle(source);
        }
    }
}
