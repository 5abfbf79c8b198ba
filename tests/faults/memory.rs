//! Memory that cannot be had: the limit of the address space.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use support::example;

use crate::program::{Program, Role, Running};
use crate::{Result, is_installed};

/// Returns a command that limits the address space of a program.
fn with_address_space(bytes: u64) -> Command {
    let mut prlimit = Command::new("prlimit");
    prlimit.arg(format!("--as={bytes}"));
    prlimit
}

#[test]
fn threads_without_memory_for_a_stack_end_a_program_with_1_and_a_line() -> Result {
    if !is_installed("prlimit") {
        return Ok(());
    }
    let mut command = with_address_space(64 << 20);
    command
        .arg(example("echo_server")?)
        .args(["--listen", "127.0.0.1:0", "--threads", "1000"])
        .stdin(Stdio::null());
    let output = command.output()?;
    let stderr = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with("echo_server: clone: "), "{stderr}");
    Ok(())
}

/// The allocator of Rust ends a process that gets no memory. The library has no part in it.
#[test]
fn a_value_without_memory_ends_a_program_at_once_with_a_line() -> Result {
    if !is_installed("prlimit") {
        return Ok(());
    }
    let program = Program {
        name: "kv_server",
        arguments: &["--listen", "127.0.0.1:0"],
        role: Role::Redis,
        input: "",
    };
    let running = Running::start_below(&program, |_| with_address_space(64 << 20))?;
    let mut client = running.connect()?;
    let value = "v".repeat(1 << 20);
    let mut stored = 0;
    while stored < 64 {
        let set = format!(
            "*3\r\n$3\r\nSET\r\n$2\r\n{stored:02}\r\n${}\r\n{value}\r\n",
            value.len()
        );
        let mut reply = [0; 5];
        let sent = client.write_all(set.as_bytes());
        if sent.and_then(|()| client.read_exact(&mut reply)).is_err() {
            break;
        }
        assert_eq!(&reply, b"+OK\r\n");
        stored += 1;
    }
    assert!(stored > 10, "{stored} values");
    let ended = running.end(false)?;
    assert_eq!(ended.status.signal(), Some(Signal::ABORT.as_raw()));
    assert!(
        ended.stderr.contains("memory allocation of"),
        "{}",
        ended.stderr
    );
    Ok(())
}
