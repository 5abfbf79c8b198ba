// W4, timers, without the loop. They are armed. Then they are cancelled, armed again after all were
// cancelled, run, or re-armed like idle timeouts.
// Options: --op cancel|anew|fire|put-off --timers TIMERS --operations OPERATIONS.
// Prints {"ns_per_op": NANOSECONDS, "ns_arm": NANOSECONDS, "bytes": RESIDENT BYTES A TIMER}.
#pragma once
#include "../common.h"

enum { IDLE_MS = 30000, PUT_OFF_A_TURN = 1000 };

static long timers, operations, ran;
static int is_cancel, is_anew, is_fire, is_put_off;

// Implemented by each peer, for the timer with this number. Its callback adds 1 to `ran`.
static void arm(long place, long delay_ms);
static void cancel(long place);
static void arm_anew(long place, long delay_ms);
static void put_off(long place);
// Implemented by each peer: a turn that does not wait. At its end, when the time of the loop is
// fresh, it calls a function.
static void turn(void (*last)(void));

static void read_options(int argc, char **argv) {
    const char *op = option(argc, argv, "--op", "cancel");
    is_cancel = !strcmp(op, "cancel");
    is_anew = !strcmp(op, "anew");
    is_fire = !strcmp(op, "fire");
    is_put_off = !strcmp(op, "put-off");
    if (is_cancel + is_anew + is_fire + is_put_off != 1) refuse("--op must be cancel, anew, fire or put-off");
    timers = number(argc, argv, "--timers", is_put_off ? 100000 : 1000000);
    operations = is_fire || is_anew ? timers : number(argc, argv, "--operations", is_put_off ? 10000000 : timers);
    if (is_cancel && operations > timers) operations = timers;
    // Rounds up to whole turns.
    if (is_put_off) operations = (operations + PUT_OFF_A_TURN - 1) / PUT_OFF_A_TURN * PUT_OFF_A_TURN;
}

static void arm_all(void) {
    for (long i = 0; i < timers; i++)
        arm(i, is_put_off ? IDLE_MS : 1 + (long)(is_fire ? next_random() % 100 : next_random() % 60000));
}

static void arm_all_anew(void) {
    for (long i = 0; i < timers; i++) arm_anew(i, 1 + (long)(next_random() % 60000));
}

static void put_off_some(void) {
    for (int i = 0; i < PUT_OFF_A_TURN; i++) put_off(next_random() % timers);
}

static void nothing(void) {}

static void operate(void) {
    if (is_cancel)
        for (long i = 0; i < operations; i++) cancel(i);
    else if (is_anew)
        turn(arm_all_anew);
    else if (is_fire)
        while (ran < timers) turn(nothing);
    else
        for (long i = 0; i < operations; i += PUT_OFF_A_TURN) turn(put_off_some);
}

static void measure_timers(void) {
    long resident = resident_bytes();
    uint64_t began = now_ns();
    turn(arm_all);
    double armed = now_ns() - began;
    resident = resident_bytes() - resident;
    if (is_fire) usleep(120000);
    for (long i = 0; is_anew && i < timers; i++) cancel(i);
    began = now_ns();
    operate();
    double took = now_ns() - began;
    printf("{\"ns_per_op\": %.2f, \"ns_arm\": %.1f, \"bytes\": %.1f}\n", took / operations, armed / timers,
           (double)resident / timers);
}
