//! `worker_pool` as a program.

use std::process::Output;

use crate::Result;
use crate::server::{run, run_with_open_files_max};

/// Returns one figure of the last line.
fn figure(output: &Output, name: &str) -> Result<u64> {
    let text = std::str::from_utf8(&output.stdout)?;
    let figure = text
        .split(&format!("\"{name}\": "))
        .nth(1)
        .and_then(|rest| rest.split([',', '.', '}']).next());
    Ok(figure
        .ok_or_else(|| format!("no {name} in {text:?}"))?
        .parse()?)
}

#[test]
fn every_task_of_a_spike_is_done_with_few_wakeups_of_the_workers() -> Result {
    let output = run(
        "worker_pool",
        &[
            "--spike",
            "200000",
            "--json",
            "--workers",
            "1",
            "--producers",
            "3",
        ],
    )?;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        (figure(&output, "tasks")?, figure(&output, "producers")?),
        (200_000, 3)
    );
    let (writes, wakeups) = (
        figure(&output, "eventfd_writes")?,
        figure(&output, "wakeups")?,
    );
    assert!(writes <= wakeups && wakeups < 20_000, "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("\"per_worker\": [200000]"));
    Ok(())
}

#[test]
fn one_eventfd_for_each_task_does_not_die_of_too_few_files() -> Result {
    let arguments = ["--spike", "5000", "--json", "--method", "eventfd"];
    let output = run_with_open_files_max("worker_pool", &arguments, 40)?;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(figure(&output, "tasks")?, 5000);
    Ok(())
}

#[test]
fn a_steady_rate_issues_its_number_of_tasks() -> Result {
    let output = run(
        "worker_pool",
        &["--rate", "50", "--seconds", "1", "--producers", "2"],
    )?;
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout)?;
    assert!(
        text.starts_with("worker-0: 50 tasks\nworker-1: 50 tasks\n100 tasks by queue in "),
        "{text}"
    );
    Ok(())
}

#[test]
fn an_invalid_option_is_refused_with_a_reason() -> Result {
    for arguments in [
        &["--workers", "0"][..],
        &["--spike", "1", "--rate", "1"],
        &["--method", "pigeon"],
        &["--rate", "0"],
    ] {
        let output = run("worker_pool", arguments)?;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
    Ok(())
}
