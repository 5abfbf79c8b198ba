// libuv: a uv_async_t on each side.
#include <uv.h>

#include "pingpong.h"

static uv_loop_t near, far;
static uv_async_t to_near, to_far;

static void far_woken(uv_async_t *async) {
    if (answer()) uv_stop(async->loop);
}

static void near_woken(uv_async_t *async) {
    if (come_back()) uv_stop(async->loop);
}

static void wake_far(void) { uv_async_send(&to_far); }
static void wake_near(void) { uv_async_send(&to_near); }
static void run_far(void) { uv_run(&far, UV_RUN_DEFAULT); }
static void run_near(void) { uv_run(&near, UV_RUN_DEFAULT); }

int main(int argc, char **argv) {
    read_options(argc, argv);
    if (uv_loop_init(&near) || uv_async_init(&near, &to_near, near_woken)) fail("uv_async_init");
    if (uv_loop_init(&far) || uv_async_init(&far, &to_far, far_woken)) fail("uv_async_init");
    measure_pingpong();
    return 0;
}
