// libuv: uv_timer_ts in one array, re-armed by uv_timer_again.
#include <uv.h>

#include "timers.h"

static uv_loop_t loop;
static uv_timer_t *all;

static void expired(uv_timer_t *timer) {
    (void)timer;
    ran++;
}

static void arm(long place, long delay_ms) {
    uv_timer_init(&loop, &all[place]);
    uv_timer_start(&all[place], expired, delay_ms, is_put_off ? delay_ms : 0);
}

static void cancel(long place) { uv_timer_stop(&all[place]); }

static void arm_anew(long place, long delay_ms) { uv_timer_start(&all[place], expired, delay_ms, 0); }

static void put_off(long place) { uv_timer_again(&all[place]); }

static void turn(void (*last)(void)) {
    uv_run(&loop, UV_RUN_NOWAIT);
    last();
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    if (uv_loop_init(&loop)) fail("uv_loop_init");
    all = malloc(timers * sizeof *all);
    measure_timers();
    return 0;
}
