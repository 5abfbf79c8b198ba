// libuv: the same vector under a mutex, and a uv_async_t, which is sent if the vector was empty.
#include <uv.h>

#include "spike.h"

static uv_loop_t loop;
static uv_async_t wake_up;

static void woken(uv_async_t *async) {
    run_pushed();
    if (is_done()) uv_stop(async->loop);
}

static void hand_over(uint64_t value) {
    if (push(value)) uv_async_send(&wake_up);
}

static void run(void) { uv_run(&loop, UV_RUN_DEFAULT); }

int main(int argc, char **argv) {
    read_options(argc, argv);
    if (uv_loop_init(&loop) || uv_async_init(&loop, &wake_up, woken)) fail("uv_async_init");
    measure_spike(run, NULL);
    return 0;
}
