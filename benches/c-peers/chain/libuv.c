// libuv: a uv_poll_t for each pipe.
#include <uv.h>

#include "chain.h"

static void readable(uv_poll_t *poll, int status, int events) {
    (void)status, (void)events;
    pass_on((int)(intptr_t)poll->data);
    if (is_done()) uv_stop(poll->loop);
}

static void run(void *loop) { uv_run(loop, UV_RUN_DEFAULT); }

int main(int argc, char **argv) {
    open_chain(argc, argv);
    uv_loop_t loop;
    uv_loop_init(&loop);
    uv_poll_t *polls = malloc(sources * sizeof *polls);
    for (int i = 0; i < sources; i++) {
        uv_poll_init(&loop, &polls[i], readers[i]);
        polls[i].data = (void *)(intptr_t)i;
        uv_poll_start(&polls[i], UV_READABLE, readable);
    }
    measure_chain(run, &loop);
    return 0;
}
