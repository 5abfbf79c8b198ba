// By hand: an eventfd and epoll on each side, edge-triggered, so that nothing is read.
// Further option: --spin MICROSECONDS, for which each side polls before it sleeps.
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "pingpong.h"

typedef struct {
    int epoll, event;
    // How often it was woken: one edge may be told twice, so that events are no count.
    long woken;
} Side;

static Side near, far;
static uint64_t spin_ns;

static void open_side(Side *side) {
    side->epoll = checked(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    side->event = checked(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), "eventfd");
    struct epoll_event watched = {.events = EPOLLIN | EPOLLET};
    checked(epoll_ctl(side->epoll, EPOLL_CTL_ADD, side->event, &watched), "epoll_ctl");
}

static void wake(Side *side) {
    __atomic_add_fetch(&side->woken, 1, __ATOMIC_RELEASE);
    checked(eventfd_write(side->event, 1), "write");
}

static void wake_far(void) { wake(&far); }
static void wake_near(void) { wake(&near); }

static int is_woken(Side *side, long times) { return __atomic_load_n(&side->woken, __ATOMIC_ACQUIRE) >= times; }

static void wait_for(Side *side, long times) {
    struct epoll_event ready;
    if (spin_ns) {
        uint64_t until = now_ns() + spin_ns;
        while (!is_woken(side, times) && now_ns() < until) checked(epoll_wait(side->epoll, &ready, 1, 0), "epoll_wait");
    }
    while (!is_woken(side, times)) checked(epoll_wait(side->epoll, &ready, 1, -1), "epoll_wait");
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
