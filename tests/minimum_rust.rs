//! The dependencies of the workspace need no newer Rust than the promised one, `rust-version`.
//!
//! Cargo refuses a package that declares a newer Rust. For our own code, the lint
//! `incompatible_msrv` of clippy checks the same.

use std::process::Command;

use serde_json::Value;
use support::Result;

/// Returns the output of `cargo metadata` for the packages in the lock file. Cargo fetches missing
/// packages.
fn metadata(options: &[&str]) -> Result<Value> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["metadata", "--locked", "--format-version", "1"])
        .args(options);
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output()?;
    if !output.status.success() {
        return Err(format!("{cargo:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Returns the packages that declare a newer Rust than ours, each with its declared version.
fn too_new(metadata: &Value) -> Result<Vec<String>> {
    let packages = metadata["packages"].as_array().ok_or("no packages")?;
    let ours = env!("CARGO_PKG_RUST_VERSION");
    let mut found = Vec::new();
    for package in packages {
        if let Some(declared) = package["rust_version"].as_str()
            && parts(declared)? > parts(ours)?
        {
            found.push(format!(
                "{} {} declares Rust {declared}",
                package["name"], package["version"]
            ));
        }
    }
    Ok(found)
}

/// Returns the numbers of a version. The last one may be missing.
fn parts(version: &str) -> Result<[u32; 3]> {
    let mut parts = [0; 3];
    for (part, text) in parts.iter_mut().zip(version.split('.')) {
        *part = text
            .parse()
            .map_err(|error| format!("{version}: {error}"))?;
    }
    Ok(parts)
}

#[test]
fn no_dependency_on_linux_declares_a_newer_rust() -> Result {
    let linux = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];
    let options = linux.map(|target| ["--filter-platform", target]);
    assert_eq!(too_new(&metadata(options.as_flattened())?)?, [""; 0]);
    Ok(())
}

#[test]
#[ignore = "fetches also the packages that other systems need; CI runs it"]
fn no_package_of_the_lock_file_declares_a_newer_rust() -> Result {
    assert_eq!(too_new(&metadata(&[])?)?, [""; 0]);
    Ok(())
}

#[test]
fn a_package_that_declares_a_newer_rust_is_found() -> Result {
    let package = |name, declared: Value| serde_json::json!({ "name": name, "version": "1.0.0", "rust_version": declared });
    let packages = [
        package("none", Value::Null),
        package("old", "1.9".into()),
        package("ours", env!("CARGO_PKG_RUST_VERSION").into()),
    ];
    let newer = package("newer", "1.100.1".into());
    assert_eq!(
        too_new(&serde_json::json!({ "packages": packages }))?,
        [""; 0]
    );
    assert_eq!(
        too_new(&serde_json::json!({ "packages": [newer] }))?,
        ["\"newer\" \"1.0.0\" declares Rust 1.100.1"]
    );
    Ok(())
}
