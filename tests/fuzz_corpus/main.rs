//! The inputs of the fuzzer, run again by `cargo test`, and random ones.
//!
//! `fuzz/run` finds inputs, guided by coverage. The corpus is kept in `fuzz/corpus`, one folder for
//! each target. An input that has once failed stays there.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

mod targets;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use arbitrary::Unstructured;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use targets::{TARGETS, Target};

const RANDOM_CASES: u32 = 64;
/// A slow failure is not made smaller for minutes.
const SHRINK_STEPS_MAX: u32 = 200;
const RANDOM_LENGTH_MAX: usize = 600;
/// The limits of the whole corpus.
const FILES_MAX: usize = 300;
const BYTES_MAX: u64 = 300 * 1024;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

/// Returns the paths in a folder, sorted.
fn paths(folder: &Path) -> io::Result<BTreeSet<PathBuf>> {
    fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect()
}

/// Runs a target. The end of the bytes is not a fault.
fn run(target: Target, bytes: &[u8]) {
    let _ = target(&mut Unstructured::new(bytes));
}

/// Names the input that fails, for [`replay`].
struct Running<'a>(&'a Path);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the input that fails: {}", self.0.display());
        }
    }
}

fn replay(name: &str, target: Target) {
    let inputs = paths(&corpus().join(name)).unwrap();
    assert!(!inputs.is_empty(), "{name} has no corpus");
    for path in inputs {
        let _running = Running(&path);
        run(target, &fs::read(&path).unwrap());
    }
}

fn run_random(target: Target) {
    let config = ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: SHRINK_STEPS_MAX,
        ..ProptestConfig::with_cases(RANDOM_CASES)
    };
    let bytes = prop::collection::vec(any::<u8>(), 0..RANDOM_LENGTH_MAX);
    let ran = TestRunner::new(config).run(&bytes, |bytes| {
        run(target, &bytes);
        Ok(())
    });
    ran.unwrap();
}

/// Makes two tests for each target.
macro_rules! tests {
    ($($name:ident)*) => {
        /// The targets that have tests.
        const TESTED: &[&str] = &[$(stringify!($name)),*];

        $(mod $name {
            #[test]
            fn every_input_of_the_corpus_passes() {
                super::replay(stringify!($name), super::target(stringify!($name)));
            }

            #[test]
            fn random_inputs_pass() {
                super::run_random(super::target(stringify!($name)));
            }
        })*
    };
}

tests!(address connection console framing http kv_session proxy_protocol registry resp timers);

fn target(name: &str) -> Target {
    TARGETS
        .iter()
        .find(|(target, _)| *target == name)
        .unwrap()
        .1
}

#[test]
fn every_target_has_tests_and_a_corpus_and_there_is_no_other() {
    let names: BTreeSet<_> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, TESTED.iter().copied().collect());
    let folders: BTreeSet<_> = paths(&corpus()).unwrap();
    assert_eq!(
        folders,
        names.iter().map(|name| corpus().join(name)).collect()
    );
}

#[test]
fn the_corpus_stays_small() {
    let inputs: Vec<_> = TARGETS
        .iter()
        .flat_map(|(name, _)| paths(&corpus().join(name)).unwrap())
        .collect();
    let bytes: u64 = inputs
        .iter()
        .map(|path| path.metadata().unwrap().len())
        .sum();
    assert!(inputs.len() <= FILES_MAX, "{} inputs", inputs.len());
    assert!(bytes <= BYTES_MAX, "{bytes} bytes");
}
