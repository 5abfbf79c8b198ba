// libuv: a uv_poll_t for each eventfd, in one array. libuv tries epoll_ctl at once, and makes the
// real call in the following turn.
#include <uv.h>

#include "registration.h"

static uv_loop_t loop;

static void readable(uv_poll_t *poll, int status, int events) {
    (void)status, (void)events;
    add_up((int)(intptr_t)poll->data);
}

static void register_all(void) {
    uv_poll_t *polls = malloc(count * sizeof *polls);
    for (int i = 0; i < count; i++) {
        if (uv_poll_init(&loop, &polls[i], sources[i])) fail("uv_poll_init");
        polls[i].data = (void *)(intptr_t)sources[i];
        if (uv_poll_start(&polls[i], UV_READABLE, readable)) fail("uv_poll_start");
    }
}

static void turn(void) { uv_run(&loop, UV_RUN_NOWAIT); }

int main(int argc, char **argv) {
    open_sources(argc, argv);
    if (uv_loop_init(&loop)) fail("uv_loop_init");
    measure_registration();
    return 0;
}
