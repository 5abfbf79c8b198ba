//! Fuzzes the target that the environment names. Run it by `fuzz/run`.

#![no_main]

#[path = "../../tests/fuzz_corpus/targets/mod.rs"]
mod targets;

use std::sync::{Arc, LazyLock};

use arbitrary::Unstructured;
use libfuzzer_sys::{Corpus, fuzz_target};
use signal_hook::consts::SIGPIPE;

use targets::{TARGETS, Target};

/// The name of a target.
const VARIABLE: &str = "FUZZ_TARGET";

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let wanted = std::env::var(VARIABLE).unwrap_or_default();
    let names = TARGETS.map(|(name, _)| name);
    let found = TARGETS.iter().find(|(name, _)| *name == wanted);
    found
        .unwrap_or_else(|| panic!("{VARIABLE} is {wanted:?}, not one of {names:?}"))
        .1
});

fuzz_target!(
    init: {
        LazyLock::force(&TARGET);
        // The main function of libFuzzer does not ignore this signal, as that of Rust does.
        signal_hook::flag::register(SIGPIPE, Arc::default()).unwrap();
    },
    |bytes: &[u8]| -> Corpus {
        // An input that ends early is a beginning of others.
        let _ = TARGET(&mut Unstructured::new(bytes));
        Corpus::Keep
    }
);
