//! A short soak, so that the long one does not rot unseen.

use std::process::Command;

#[test]
fn a_short_soak_finds_no_deviation() {
    let output = Command::new(env!("CARGO_BIN_EXE_soak"))
        .args(["--minutes", "0.05", "--seed", "1"])
        .output()
        .expect("the soak starts");
    let (told, failed) = (output.stdout, output.stderr);
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&told),
        String::from_utf8_lossy(&failed)
    );
    assert!(output.status.success(), "{text}");
    assert!(text.contains("no deviation"), "{text}");
}

#[test]
fn bad_arguments_end_it_with_an_error_that_names_them() {
    let output = Command::new(env!("CARGO_BIN_EXE_soak"))
        .args(["--minutes=-1"])
        .output()
        .expect("the soak starts");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--minutes"));
}
