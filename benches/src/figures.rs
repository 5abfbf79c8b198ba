//! The figures that a program prints: the last line of its output, in JSON.

use std::collections::BTreeMap;

use workloads::Result;

/// The figures of one run of a program.
pub(crate) type Figures = BTreeMap<String, f64>;

/// Parses the last line of a program's output.
///
/// # Errors
/// The output is empty, or its last line is not an object of numbers.
pub(crate) fn parse(text: &str) -> Result<Figures> {
    let line = text.lines().last().ok_or("no output")?;
    Ok(serde_json::from_str(line).map_err(|error| format!("{line:?}: {error}"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_taken_at_the_last_line_that_it_prints() {
        let told = parse("hello\n{\"ns_per_op\": 12.5, \"bytes\": 64}\n").unwrap();
        assert_eq!(
            told,
            Figures::from([("bytes".to_owned(), 64.0), ("ns_per_op".to_owned(), 12.5)])
        );
        assert!(parse("").is_err());
        assert!(parse("hello").is_err());
    }
}
