// By hand, as the lower bound: a hashed hierarchical timer wheel without safe handles. A timer is a
// node of a list, and code that holds its address may cancel it. A timer that is re-armed moves
// only when the slot that it lies in is due.
//
// There are six levels of 64 slots. A slot of level n stands for 64^n ticks of 1 ms. The level of a
// timer is the highest base-64 digit in which its time differs from now. So the next slot that is
// due is the first non-empty one of the lowest level that has one.
#include <sys/epoll.h>

#include "timers.h"

enum { LEVELS = 6, DIGIT_BITS = 6, SLOTS = 1 << DIGIT_BITS };

typedef struct Link {
    struct Link *next, *previous;
} Link;

typedef struct {
    Link link;
    uint64_t due_ms;
    void (*call)(void *argument);
    void *argument;
} Timer;

// Circular lists: an empty slot is linked to itself.
static Link slots[LEVELS * SLOTS];
// A bit for each slot of a level, set if the slot is not empty.
static uint64_t occupied[LEVELS];
static uint64_t now_ms, began_ns;

static Timer *all;
static int epoll;

static inline void link_timer(Timer *timer) {
    uint64_t due = timer->due_ms > now_ms ? timer->due_ms : now_ms + 1;
    int level = (63 - __builtin_clzll(due ^ now_ms)) / DIGIT_BITS;
    int place = due >> (level * DIGIT_BITS) & (SLOTS - 1);
    Link *slot = &slots[level * SLOTS + place];
    timer->link = (Link){slot, slot->previous};
    slot->previous->next = &timer->link;
    slot->previous = &timer->link;
    occupied[level] |= 1ull << place;
}

static inline void unlink_timer(Timer *timer) {
    Link *next = timer->link.next, *previous = timer->link.previous;
    next->previous = previous;
    previous->next = next;
    if (next != previous) return;
    // The timer was the last of a list: that of a slot, or the list that is being run.
    size_t slot = next - slots;
    if (slot < LEVELS * SLOTS) occupied[slot / SLOTS] &= ~(1ull << slot % SLOTS);
}

// Empties a slot, and then checks its timers. Those that were re-armed, or that lie on a higher
// level, are linked again.
static void take_slot(int level, int place) {
    Link *slot = &slots[level * SLOTS + place], taken = *slot;
    taken.next->previous = taken.previous->next = &taken;
    *slot = (Link){slot, slot};
    occupied[level] &= ~(1ull << place);
    while (taken.next != &taken) {
        Timer *timer = (Timer *)taken.next;
        taken.next = timer->link.next;
        taken.next->previous = &taken;
        if (timer->due_ms > now_ms)
            link_timer(timer);
        else
            timer->call(timer->argument);
    }
}

static void advance(uint64_t until_ms) {
    for (;;) {
        int level = 0;
        while (level < LEVELS && !occupied[level]) level++;
        if (level == LEVELS) break;
        int place = __builtin_ctzll(occupied[level]), shift = level * DIGIT_BITS;
        uint64_t above = now_ms >> shift >> DIGIT_BITS << DIGIT_BITS << shift;
        uint64_t next_ms = above | (uint64_t)place << shift;
        if (next_ms > until_ms) break;
        now_ms = next_ms;
        take_slot(level, place);
    }
    now_ms = until_ms;
}

static void count(void *argument) { ++*(long *)argument; }

static void arm(long place, long delay_ms) {
    all[place] = (Timer){.due_ms = now_ms + delay_ms, .call = count, .argument = &ran};
    link_timer(&all[place]);
}

static void cancel(long place) { unlink_timer(&all[place]); }

static void arm_anew(long place, long delay_ms) { arm(place, delay_ms); }

static void put_off(long place) { all[place].due_ms = now_ms + IDLE_MS; }

static void turn(void (*last)(void)) {
    struct epoll_event ready;
    checked(epoll_wait(epoll, &ready, 1, 0), "epoll_wait");
    advance((now_ns() - began_ns) / 1000000);
    last();
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    epoll = checked(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    all = malloc(timers * sizeof *all);
    for (int i = 0; i < LEVELS * SLOTS; i++) slots[i] = (Link){&slots[i], &slots[i]};
    began_ns = now_ns();
    measure_timers();
    return 0;
}
