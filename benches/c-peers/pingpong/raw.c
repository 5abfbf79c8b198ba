// By hand: an eventfd and epoll on each side, edge-triggered, so that nothing is read.
// Further option: --spin MICROSECONDS, for which each side looks before it sleeps; meanwhile nobody writes to its eventfd.
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "pingpong.h"

// So often a side looks whether it was woken, for each time that it asks the kernel.
enum { LOOKS_A_CALL = 32 };

typedef struct {
    int epoll, event;
    // How often it was woken: one edge may be told twice, so that events are no count.
    long woken;
    // Whether it has to be woken by its eventfd.
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

// Looks for as long as it may; says whether it was woken.
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
