//! A disk that is full, read-only or gone, and files that may grow no further.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use support::{example, or_skipped};

use crate::injection::{ECHO_SERVER, SERVICES};
use crate::program::{Running, Served};
use crate::{Result, is_installed};

const BLOCK: [u8; 8192] = [b'x'; 8192];

/// Returns a command that gives a program a disk of 64 KiB for its data, seen by nobody else.
fn with_small_disk(folder: &Path) -> Command {
    let script = r#"mount -t tmpfs -o size=64k none "$0/data" && exec "$@""#;
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", script]).arg(folder);
    command
}

/// Returns whether a process may mount in a namespace of its own.
fn can_mount() -> bool {
    let mut unshare = Command::new("unshare");
    unshare.args(["-rm", "mount", "-t", "tmpfs", "none", "/mnt"]);
    let output = unshare.stderr(Stdio::null()).output();
    let is_possible = output.is_ok_and(|output| output.status.success());
    or_skipped(is_possible, "no mounts in a user namespace")
}

/// Mounts the disk of a program again, with these options.
fn remount(running: &Running, options: &str) -> Result {
    let mut nsenter = Command::new("nsenter");
    let pid = running.pid().as_raw_nonzero().to_string();
    nsenter
        .args(["--preserve-credentials", "-U", "-m", "-t", &pid])
        .args(["mount", "-o", &format!("remount,{options}")])
        .arg(running.data_in_its_mounts());
    if nsenter.status()?.success() {
        Ok(())
    } else {
        Err(format!("{nsenter:?}").into())
    }
}

/// Has clients write to the journal until one of them is refused. Returns why.
fn fill(running: &Running) -> Result<String> {
    for _ in 0..20 {
        if let Served::Refused(why) = running.serve_request(&BLOCK, &BLOCK)? {
            return Ok(why);
        }
    }
    Err("the disk is never full".into())
}

/// Checks that a client is refused by the text of an error, and that the file that was written
/// last is whole.
#[track_caller]
fn expect_refusal(running: &Running, why: &str, error: &str) -> Result {
    assert!(why.contains(error), "{why}");
    assert!(
        why.contains("(/") || why.contains("data/"),
        "names no path: {why}"
    );
    let latest = fs::read(running.data().join("latest"))?;
    assert!(
        latest == BLOCK || latest == b"hello",
        "{} bytes",
        latest.len()
    );
    let mut names: Vec<_> = fs::read_dir(running.data())?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<std::io::Result<_>>()?;
    names.sort();
    assert_eq!(names, ["journal", "latest"], "nothing is left behind");
    Ok(())
}

fn expect_good_end(running: Running) -> Result {
    let ended = running.end(false)?;
    assert!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    Ok(())
}

#[test]
fn a_full_disk_is_an_error_in_words_until_there_is_room() -> Result {
    if !can_mount() {
        return Ok(());
    }
    let running = Running::start_below(&SERVICES, with_small_disk)?;
    for _ in 0..2 {
        let why = fill(&running)?;
        expect_refusal(&running, &why, "No space left on device")?;
    }
    fs::remove_file(running.data().join("journal"))?;
    assert_eq!(running.serve_client()?, Served::Well);
    expect_good_end(running)
}

#[test]
fn a_disk_that_becomes_read_only_is_an_error_in_words_meanwhile() -> Result {
    if !can_mount() {
        return Ok(());
    }
    let running = Running::start_below(&SERVICES, with_small_disk)?;
    assert_eq!(running.serve_client()?, Served::Well);
    remount(&running, "ro")?;
    let why = fill(&running)?;
    expect_refusal(&running, &why, "Read-only file system")?;
    remount(&running, "rw")?;
    assert_eq!(running.serve_client()?, Served::Well);
    expect_good_end(running)
}

#[test]
fn a_folder_that_vanishes_is_an_error_in_words_until_it_is_back() -> Result {
    let running = Running::start_below(&SERVICES, |_| Command::new("env"))?;
    assert_eq!(running.serve_client()?, Served::Well);
    let (data, away) = (running.data(), running.data().with_extension("away"));
    fs::rename(&data, &away)?;
    let why = fill(&running)?;
    assert!(why.contains("No such file or directory"), "{why}");
    fs::rename(&away, &data)?;
    assert_eq!(running.serve_client()?, Served::Well);
    expect_good_end(running)
}

#[test]
fn a_file_that_may_grow_no_further_is_an_error_in_words() -> Result {
    if !is_installed("prlimit") {
        return Ok(());
    }
    let running = Running::start_below(&SERVICES, |_| {
        let mut prlimit = Command::new("prlimit");
        prlimit.arg("--fsize=65536");
        prlimit
    })?;
    let why = fill(&running)?;
    expect_refusal(&running, &why, "File too large")?;
    fs::remove_file(running.data().join("journal"))?;
    assert_eq!(running.serve_client()?, Served::Well);
    expect_good_end(running)
}

#[test]
fn an_output_on_a_full_disk_ends_a_program_with_1_and_a_line() -> Result {
    let listen = ["--listen", "127.0.0.1:0"];
    let to_target = ["--listen", "127.0.0.1:0", "--to", "127.0.0.1:1"];
    let programs: [(&str, &[&str]); 8] = [
        ("echo_raw", &listen),
        ("echo_server", &listen),
        ("http_hello", &listen),
        ("kv_server", &listen),
        ("proxy", &to_target),
        ("console_loop", &[]),
        ("worker_pool", &["--spike", "10"]),
        ("worker_pool", &["--spike", "10", "--json"]),
    ];
    for (name, arguments) in programs {
        let mut command = Command::new(example(name)?);
        command
            .args(arguments)
            .stdin(support::file_with(b"after 0 x\n")?)
            .stdout(File::create("/dev/full")?);
        let output = command.output()?;
        let expected = format!("{name}: standard output: No space left on device (os error 28)\n");
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert_eq!(String::from_utf8(output.stderr)?, expected);
    }
    Ok(())
}

/// By default, `tracing-subscriber` reports its own errors by a panic then.
#[test]
fn a_log_on_a_full_disk_costs_no_client_its_answer() -> Result {
    let running = Running::start_below(&ECHO_SERVER, |_| {
        let mut shell = Command::new("sh");
        let script = r#"RUST_LOG=trace exec "$0" "$@" 2>/dev/full"#;
        shell.args(["-c", script]);
        shell
    })?;
    for _ in 0..3 {
        assert_eq!(running.serve_client()?, Served::Well);
    }
    expect_good_end(running)
}
