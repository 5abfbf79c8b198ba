//! The reasons why a contestant takes no part: a program or library that it needs is not installed,
//! or it has failed. A failure makes the whole command fail.

use std::fmt::{self, Display, Formatter};

use workloads::Result;

/// The reason why a contestant takes no part, as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Absence {
    /// A program or library that it needs is not installed.
    Missing(String),
    /// Everything that it needs is installed, but its build or its run fails.
    Failed(String),
}

impl Absence {
    /// Returns a failure: `how` the program or its build failed, and the last line of `error`. If
    /// `error` has more lines, prints all of them to standard error.
    pub(crate) fn failed(how: &str, error: &impl ToString) -> Self {
        Self::Failed(format!("{how}: {}", in_a_line(error)))
    }
}

impl Display for Absence {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let (Self::Missing(why) | Self::Failed(why)) = self;
        out.write_str(why)
    }
}

/// Returns an error if a contestant of any table has failed.
///
/// # Errors
/// The failed contestants, each with its table.
pub(crate) fn nobody_failed<'a>(
    tables: impl IntoIterator<Item = (&'static str, &'a [(&'static str, Absence)])>,
) -> Result {
    let mut failed = Vec::new();
    for (title, absent) in tables {
        let failures = absent
            .iter()
            .filter(|(_, why)| matches!(why, Absence::Failed(_)));
        failed.extend(failures.map(|(name, why)| format!("{title}, {name}: {why}")));
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(failed.join("\n").into())
    }
}

/// Returns the last line of an error, since tools end with the message that matters. If the error
/// has more lines, prints all of them to standard error.
fn in_a_line(error: &impl ToString) -> String {
    let said = error.to_string();
    let last = last_line(&said);
    if last != said {
        eprintln!("{said}");
    }
    last.to_owned()
}

fn last_line(said: &str) -> &str {
    said.lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_reported_with_its_last_line_that_is_not_empty() {
        assert_eq!(
            last_line("\"cc\": exit status: 1\nfatal error: ev.h\n\n"),
            "fatal error: ev.h"
        );
        assert_eq!(last_line("refused"), "refused");
        assert_eq!(last_line(""), "");
    }

    #[test]
    fn a_missing_contestant_is_no_failure_and_every_failure_is_reported() {
        let missing = [("libev", Absence::Missing("not installed".to_owned()))];
        let failed = [
            missing[0].clone(),
            ("reactor", Absence::Failed("failed: no memory".to_owned())),
        ];
        assert!(nobody_failed([("a chain", &missing[..]), ("an echo", &[])]).is_ok());
        let told = nobody_failed([("a chain", &failed[..]), ("an echo", &failed[1..])])
            .unwrap_err()
            .to_string();
        assert_eq!(
            told,
            "a chain, reactor: failed: no memory\nan echo, reactor: failed: no memory"
        );
    }
}
