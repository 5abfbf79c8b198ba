// libuv: a uv_idle_t for each callback. It stays started, which is the cheapest way to defer it
// again.
#include <uv.h>

#include "deferred.h"

static uv_loop_t loop;
// Without a handle, a loop ends before its turn.
static uv_async_t handle;

static void again(uv_idle_t *idle) {
    ran++;
    if (!is_done()) return;
    uv_idle_stop(idle);
    uv_stop(&loop);
}

static void again_captured(uv_idle_t *idle) {
    if (!add(idle->data)) return;
    uv_idle_stop(idle);
    uv_stop(&loop);
}

static void turn(void) { uv_run(&loop, UV_RUN_NOWAIT); }

static void defer_some(void) {
    for (int i = 0; i < CALLBACKS_A_TURN; i++) {
        uv_idle_t *idle = malloc(sizeof *idle);
        uv_idle_init(&loop, idle);
        idle->data = &captured[i];
        uv_idle_start(idle, is_captured ? again_captured : again);
    }
}

static void run(void) { uv_run(&loop, UV_RUN_DEFAULT); }

int main(int argc, char **argv) {
    read_options(argc, argv);
    if (uv_loop_init(&loop) || uv_async_init(&loop, &handle, NULL)) fail("uv_async_init");
    measure();
    return 0;
}
