// Lets the kernel add to the eventfd that is standard input: it does when an asynchronous read of itself is complete
// (IOCB_FLAG_RESFD, io_submit(2)).
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv) {
    (void)argc;
    static char buffer[64];
    aio_context_t context = 0;
    int file = open(argv[0], O_RDONLY);
    if (file < 0 || syscall(SYS_io_setup, 1, &context)) return perror("io_setup"), 1;
    struct iocb read = {
        .aio_fildes = file, .aio_lio_opcode = IOCB_CMD_PREAD, .aio_buf = (unsigned long)buffer,
        .aio_nbytes = sizeof buffer, .aio_flags = IOCB_FLAG_RESFD, .aio_resfd = STDIN_FILENO,
    };
    struct iocb *submitted = &read;
    struct io_event done;
    if (syscall(SYS_io_submit, context, 1, &submitted) != 1) return perror("io_submit"), 1;
    return syscall(SYS_io_getevents, context, 1, 1, &done, NULL) != 1;
}
