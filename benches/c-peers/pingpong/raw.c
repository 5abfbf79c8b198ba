// By hand: an eventfd and epoll on each side, edge-triggered, so no read is needed.
// Additional option: --spin MICROSECONDS, the time for which a side polls before it sleeps.
// Meanwhile no write to its eventfd is made.
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "pingpong.h"

// The number of checks of the counter for each system call.
enum { LOOKS_A_CALL = 32 };

typedef struct {
    int epoll, event;
    // The number of wakeups. One edge may be reported twice, so events cannot be counted instead.
    long woken;
    // Set if a wakeup needs a write to the eventfd.
    int sleeps;
} Side;

static Side near, far;
static uint64_t spin_ns;

static void open_side(Side *side) {
    side->sleeps = !spin_ns;
    side->epoll = checked(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    side->event = checked(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), "eventfd");
    struct epoll_event watched = {.events = EPOLLIN | EPOLLET};
    checked(epoll_ctl(side->epoll, EPOLL_CTL_ADD, side->event, &watched), "epoll_ctl");
}

static void wake(Side *side) {
    __atomic_add_fetch(&side->woken, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&side->sleeps, __ATOMIC_SEQ_CST)) checked(eventfd_write(side->event, 1), "write");
}

static void wake_far(void) { wake(&far); }
static void wake_near(void) { wake(&near); }

static int is_woken(Side *side, long times) { return __atomic_load_n(&side->woken, __ATOMIC_SEQ_CST) >= times; }

// Polls for the spin time. Returns 1 if the side has been woken.
static int is_woken_soon(Side *side, long times) {
    struct epoll_event ready;
    uint64_t until = now_ns() + spin_ns;
    do {
        checked(epoll_wait(side->epoll, &ready, 1, 0), "epoll_wait");
        for (int looks = 0; looks < LOOKS_A_CALL; looks++)
            if (is_woken(side, times)) return 1;
    } while (now_ns() < until);
    return 0;
}

static void wait_for(Side *side, long times) {
    struct epoll_event ready;
    if (spin_ns && is_woken_soon(side, times)) return;
    __atomic_store_n(&side->sleeps, 1, __ATOMIC_SEQ_CST);
    while (!is_woken(side, times)) checked(epoll_wait(side->epoll, &ready, 1, -1), "epoll_wait");
    __atomic_store_n(&side->sleeps, !spin_ns, __ATOMIC_SEQ_CST);
}

static void run_far(void) {
    do wait_for(&far, answered + 1);
    while (!answer());
}

static void run_near(void) {
    do wait_for(&near, returned + 1);
    while (!come_back());
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    spin_ns = 1000 * number(argc, argv, "--spin", 0);
    open_side(&near);
    open_side(&far);
    measure_pingpong();
    return 0;
}
